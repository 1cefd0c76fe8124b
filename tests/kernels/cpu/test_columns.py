"""Sums of columns have the bits of the chain of float32, for a weight alone and for each of a stack."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels.cpu import columns
from microturn.kernels.cpu.columns import CHAIN_LENGTH, LONGEST, Columns
from microturn.kernels.cpu.policy import CHAIN, CHAIN_OF_ROWS, policies
from microturn.kernels.cpu.probe import LinearShape, certified, policy_for
from microturn.kernels.evidence import same_bits
from microturn.kernels.ops.linear import linear, prepare_linears

pytestmark = pytest.mark.unit

SHAPES = ((1, 2), (33, 7), (512, 40), (513, 40), (1100, 1536), (64, 2 * LONGEST), (40, 1031))
"""(K, N): one product, one chain, two and three; one panel of columns, several, and a prime number of columns."""


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _written_out(row: Tensor, weight: Tensor) -> Tensor:
    """Fused multiply-adds one after the other, as in `test_linear`; parts of K from left to right."""
    total = None
    for numbers, part in zip(row.split(CHAIN_LENGTH, 1), weight.split(CHAIN_LENGTH, 1), strict=True):
        chain = torch.zeros(1, weight.shape[0], dtype=torch.float64)
        for number, column in zip(numbers[0].double(), part.double().T, strict=True):
            chain = (chain + number * column).float().double()
        total = chain.float() if total is None else total + chain.float()
    assert total is not None
    return total


def _expect_chain(inner: int, outer: int) -> None:
    if policy_for(torch.float32, inner, outer) is not CHAIN:
        pytest.skip(
            "sums of columns have other bits than the chain on this processor, so they are not in use"
        )


@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_a_sum_of_columns_is_the_chain_written_out(inner: int, outer: int, threads: int) -> None:
    _expect_chain(inner, outer)
    row, weight = _random(1, inner, seed=1), _random(outer, inner, seed=2)
    found = Columns.of(weight).times(row)
    assert same_bits(found, _written_out(row, weight)), f"{threads} threads"


@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_rows_with_a_weight_each_have_the_bits_of_each_alone(inner: int, outer: int, threads: int) -> None:
    _expect_chain(inner, outer)
    rows, stack = _random(7, inner, seed=1), _random(4, outer, inner, seed=2)
    experts = torch.tensor([3, 0, 0, 2, 3, 3, 0], dtype=torch.int32)
    of_stack = Columns.of(stack)
    found = of_stack.times_rows(rows, experts)
    for place, expert in enumerate(experts.tolist()):
        row = rows[place : place + 1]
        expected = linear(row, stack[expert])
        assert same_bits(found[place : place + 1], expected), f"{threads} threads"
        assert same_bits(of_stack.of_expert(expert).times(row), expected)


@pytest.mark.parametrize(("inner", "outer"), [(16, 128), (16, 512), (256, 256), (704, 32)])
def test_a_few_rows_have_the_bits_of_each_alone_and_of_many(inner: int, outer: int, threads: int) -> None:
    _expect_chain(inner, outer)
    rows, weight = _random(130, inner, seed=1), _random(outer, inner, seed=2)
    prepare_linears([weight])
    many = linear(rows, weight)
    for count in (2, 3, 5, 20):
        assert same_bits(linear(rows[:count], weight), many[:count]), f"{threads} threads"
        assert same_bits(Columns.of(weight).times(rows[:count]), many[:count])


def test_a_row_with_gaps_is_read_number_by_number() -> None:
    _expect_chain(33, 7)
    rows, weight = _random(33, 2, seed=1), _random(7, 33, seed=2)
    expected = linear(rows.T.contiguous()[:1], weight)
    assert same_bits(Columns.of(weight).times(rows.T[:1]), expected)


def test_no_number_spreads_to_other_rows() -> None:
    rows, stack = _random(3, 33, seed=1), _random(2, 7, 33, seed=2)
    rows[1] = torch.nan
    found = Columns.of(stack).times_rows(rows, torch.tensor([0, 1, 0], dtype=torch.int32))
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


def test_a_prepared_weight_serves_with_and_without_gradients() -> None:
    weight = torch.nn.Parameter(_random(7, 33, seed=2))
    row = _random(1, 33, seed=1)
    expected = linear(row, weight.detach().clone())
    with torch.inference_mode():
        prepare_linears([weight])
        assert same_bits(linear(row, weight), expected)
    assert same_bits(linear(row.requires_grad_(), weight).detach(), expected)


@pytest.mark.parametrize("outer", (2, 40, LONGEST, LONGEST + 1, 1031, 50_000, 151_936))
def test_columns_are_cut_into_equal_panels_of_two_numbers_or_more(outer: int) -> None:
    panels = columns._panels(outer)
    assert outer % panels == 0
    assert outer // panels >= 2
    assert outer // panels <= LONGEST or panels == 1


def test_columns_that_add_in_another_order_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = LinearShape(torch.float32, 40, 24, 1, "highest")
    if certified(shape, policies(torch.float32), (1,)) is not CHAIN:
        pytest.skip(
            "sums of columns have other bits than the chain on this processor, so they are not in use"
        )
    times = Columns.times
    monkeypatch.setattr(
        Columns,
        "times",
        lambda self, rows: times(self._replace(table=self.table.flip(0)), rows.flip(1)),
    )
    assert certified(shape, policies(torch.float32), (1,)) is CHAIN_OF_ROWS
