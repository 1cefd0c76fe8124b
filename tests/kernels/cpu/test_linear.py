"""Matrix products on the CPU: close to the oracle, and one row's bits are the same in every batch."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import linear as cpu
from microturn.kernels.cpu.columns import CHAIN_LENGTH
from microturn.kernels.cpu.packed import packed
from microturn.kernels.cpu.policy import CHAIN, CHAIN_OF_ROWS
from microturn.kernels.cpu.probe import policy_for
from microturn.kernels.evidence import Neighbours, row_evidence, same_bits
from microturn.kernels.ops import linear as ops

pytestmark = pytest.mark.unit

SHAPES = ((64, 96), (1100, 40), (530, 1), (5, 3))
"""(K, N): below and beyond one chain, a single column, tiny."""
PRECISION = {torch.float32: 3e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}
"""Largest error norm over the result's norm: the rounding of the result, and for float32 that of the sum."""
KEPT: tuple[Neighbours, ...] = ("zeros", "large")


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _cancelling(inner: int, outer: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A row and a weight whose products add up to what was rounded off, so that another order shows in every dtype."""
    half = inner // 2
    row, weight = _random(inner, seed=1), _random(outer, inner, seed=2)
    row[half : 2 * half] = row[:half]
    weight[:, half : 2 * half] = -weight[:, :half]
    weight[:, 2 * half :] = 0
    return row.to(dtype), weight.to(dtype)


def _error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def _written_out(x: Tensor, weight: Tensor) -> Tensor:
    """Chains of fused multiply-adds over at most 512 products, added from left to right.

    A product of two float32 numbers is exact in float64; that the sum is rounded twice would differ from a fused
    step once in some 500 million steps.
    """
    total = None
    for rows, columns in zip(
        torch.split(x, CHAIN_LENGTH, 1), torch.split(weight, CHAIN_LENGTH, 1), strict=True
    ):
        chain = torch.zeros(x.shape[0], weight.shape[0], dtype=torch.float64)
        for left, right in zip(rows.double().T, columns.double().T, strict=True):
            chain = (chain + left[:, None] * right[None]).float().double()
        total = chain.float() if total is None else total + chain.float()
    assert total is not None
    return total


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize(("inner", "outer"), SHAPES)
def test_a_linear_is_near_its_oracle(inner: int, outer: int, dtype: torch.dtype) -> None:
    x, weight = _random(9, inner, seed=3, dtype=dtype), _random(outer, inner, seed=4, dtype=dtype)
    bias = _random(outer, seed=5, dtype=dtype)
    assert _error(ops.linear(x, weight), reference.linear(x, weight)) < PRECISION[dtype]
    assert _error(ops.linear(x, weight, bias), reference.linear(x, weight, bias)) < PRECISION[dtype]
    assert ops.linear(x, weight).dtype == dtype


def test_leading_dimensions_are_kept() -> None:
    x, weight = _random(2, 3, 64, seed=3), _random(96, 64, seed=4)
    assert same_bits(ops.linear(x, weight), ops.linear(x.view(6, 64), weight).view(2, 3, 96))
    assert same_bits(ops.linear(x[0, 0], weight), ops.linear(x, weight)[0, 0])
    assert ops.linear(x[:, :0], weight).shape == (2, 0, 96)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
@pytest.mark.parametrize(("inner", "outer"), SHAPES[:3])
def test_a_row_has_the_same_bits_in_every_batch(
    inner: int, outer: int, dtype: torch.dtype, threads: int
) -> None:
    row, weight = _cancelling(inner, outer, dtype)
    evidence = row_evidence(lambda x: ops.linear(x, weight), row, neighbours=KEPT)
    assert evidence.is_invariant, f"with {threads} threads: {evidence}"


def test_half_precision_too_has_the_same_bits_in_every_batch() -> None:
    row, weight = _cancelling(1100, 40, torch.float16)
    evidence = row_evidence(lambda x: ops.linear(x, weight), row, neighbours=("zeros", "random"))
    assert evidence.is_invariant, str(evidence)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_the_bits_are_those_of_one_thread(dtype: torch.dtype, threads: int) -> None:
    x, weight = _random(50, 1100, seed=6, dtype=dtype), _random(40, 1100, seed=7, dtype=dtype)
    found = ops.linear(x, weight)
    torch.set_num_threads(1)
    assert same_bits(found, ops.linear(x, weight)), f"with {threads} threads"


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_the_native_linear_fails_the_same_comparison(dtype: torch.dtype) -> None:
    row, weight = _cancelling(1100, 40, dtype)
    assert row_evidence(lambda x: F.linear(x, weight), row, neighbours=KEPT).mismatches > 0


def test_a_neighbour_that_is_no_number_changes_nothing() -> None:
    x, weight = _random(7, 64, seed=3), _random(96, 64, seed=4)
    expected = ops.linear(x, weight)
    x[3] = torch.nan
    found = ops.linear(x, weight)
    assert found[3].isnan().all()
    others = [0, 1, 2, 4, 5, 6]
    assert same_bits(found[others], expected[others])


@pytest.mark.parametrize(("inner", "outer"), ((64, 7), (512, 40), (1100, 40), (700, 1)))
def test_a_float32_linear_adds_in_written_out_chains(inner: int, outer: int, threads: int) -> None:
    if policy_for(torch.float32, inner, outer) not in (CHAIN, CHAIN_OF_ROWS):
        pytest.skip("this processor has no fused multiply-add in oneDNN, so another policy is in use")
    x, weight = _random(50, inner, seed=8), _random(outer, inner, seed=9)
    expected = _written_out(x, weight)
    for rows in (1, 2, 7, 50):
        assert same_bits(ops.linear(x[:rows], weight), expected[:rows]), f"{rows} rows, {threads} threads"


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize(("inner", "outer"), ((64, 96), (1100, 40), (530, 1)))
def test_a_prepared_weight_gives_the_same_bits(inner: int, outer: int, dtype: torch.dtype) -> None:
    row, weight = _cancelling(inner, outer, dtype)
    plain, bias = weight.clone(), _random(outer, seed=5, dtype=dtype)
    ops.prepare_linears([weight], rows=(1, 7))
    for rows in (1, 2, 7, 33, 130):
        x = torch.cat([row[None], _random(rows - 1, inner, seed=rows, dtype=dtype)])
        assert same_bits(ops.linear(x, weight), ops.linear(x, plain))
        assert same_bits(ops.linear(x, weight, bias), ops.linear(x, plain, bias))


def _is_packed(weight: Tensor) -> bool:
    return packed(weight, policy_for(weight.dtype, weight.shape[1], weight.shape[0])) is not None


def test_a_prepared_weight_that_was_changed_is_not_used_any_more() -> None:
    weight, x = _random(96, 64, seed=4), _random(3, 64, seed=3)
    prepared = ops.prepare_linears([weight])
    before = ops.linear(x, weight)
    assert _is_packed(weight) == (prepared == 1)
    weight.mul_(2)
    assert not _is_packed(weight)
    assert same_bits(ops.linear(x, weight), before * 2)
    assert ops.prepare_linears([weight]) == prepared
    assert same_bits(ops.linear(x, weight), before * 2)


def test_new_memory_behind_a_parameter_is_noticed() -> None:
    parameter, x = torch.nn.Parameter(_random(96, 64, seed=4)), _random(3, 64, seed=3)
    ops.prepare_linears([parameter])
    before, old = parameter.detach(), parameter.detach().clone()
    parameter.data = _random(96, 64, seed=5)
    with torch.no_grad():
        assert _error(ops.linear(x, parameter), reference.linear(x, parameter)) < PRECISION[torch.float32]
        # The old memory still lies there, and is no prepared weight now.
        before.mul_(3)
        assert _error(ops.linear(x, before), reference.linear(x, old * 3)) < PRECISION[torch.float32]


def test_a_packed_copy_dies_with_its_weight() -> None:
    weight = _random(96, 64, seed=4)
    ops.prepare_linears([weight])
    was_packed = _is_packed(weight)
    same_memory = torch.empty(0).set_(weight.untyped_storage(), 0, (96, 64), (64, 1))
    assert _is_packed(same_memory) == was_packed
    del weight
    gc.collect()
    assert not _is_packed(same_memory)


def test_each_expert_of_a_prepared_stack_is_packed() -> None:
    stack, x = _random(3, 96, 64, seed=4), _random(5, 64, seed=3)
    expected = [ops.linear(x, expert) for expert in stack]
    if ops.prepare_linears([stack]):
        assert all(_is_packed(expert) for expert in stack)
    assert all(same_bits(ops.linear(x, expert), one) for expert, one in zip(stack, expected, strict=True))


def test_a_transposed_view_of_a_prepared_weight_is_another_weight() -> None:
    weight, x = _random(64, 64, seed=4), _random(5, 64, seed=3)
    ops.prepare_linears([weight])
    assert _error(ops.linear(x, weight.t()), reference.linear(x, weight.t())) < PRECISION[torch.float32]


@pytest.mark.parametrize("dtype", PRECISION)
def test_shards_are_partial_sums_and_have_the_same_bits_in_every_batch(dtype: torch.dtype) -> None:
    row, weight = _cancelling(96, 40, dtype)
    x = _random(6, 96, seed=3, dtype=dtype)
    found = ops.linear_shards(x, weight, 8)
    assert found.dtype == torch.float32
    assert _error(found, reference.linear_shards(x, weight, 8)) < PRECISION[torch.float32]
    by_row = row_evidence(
        lambda rows: ops.linear_shards(rows, weight, 8).transpose(0, 1), row, neighbours=KEPT
    )
    assert by_row.is_invariant, str(by_row)


@pytest.mark.parametrize("dtype", PRECISION)
def test_products_of_matrices_are_near_their_oracles(dtype: torch.dtype) -> None:
    a, b = _random(3, 5, 64, seed=3, dtype=dtype), _random(3, 64, 17, seed=4, dtype=dtype)
    assert _error(ops.bmm(a, b), reference.bmm(a, b)) < PRECISION[dtype]
    assert _error(ops.matmul(a[0], b[0]), reference.matmul(a[0], b[0])) < PRECISION[dtype]
    assert same_bits(ops.bmm(a, b)[1], ops.matmul(a[1], b[1]))
    assert ops.bmm(a[:0], b[:0]).shape == (0, 5, 17)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_a_row_of_a_product_has_the_same_bits_in_every_batch(dtype: torch.dtype) -> None:
    row, weight = _cancelling(96, 40, dtype)
    other = weight.t().contiguous()
    products: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: ops.matmul(x, other),
        lambda x: ops.bmm(x[None], other[None])[0],
        lambda x: ops.bmm(x[:, None], other.expand(x.shape[0], -1, -1))[:, 0],
    )
    for product in products:
        evidence = row_evidence(product, row, batches=(1, 2, 3, 5, 17, 33), neighbours=KEPT)
        assert evidence.is_invariant, str(evidence)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, weight = torch.zeros(2, 8), torch.zeros(4, 8)
    wrong: tuple[Callable[[], Tensor], ...] = (
        lambda: ops.linear(torch.zeros(2, 7), weight),
        lambda: ops.linear(x.double(), weight.double()),
        lambda: ops.linear(x, weight.bfloat16()),
        lambda: ops.linear(x, weight[:0]),
        lambda: ops.linear(x[:, :0], weight[:, :0]),
        lambda: ops.linear(x, weight, torch.zeros(5)),
        lambda: ops.linear_shards(x, weight, 3),
        lambda: ops.linear_shards(x, weight, 0),
        lambda: ops.linear_shards(x[0], weight, 2),
        lambda: ops.matmul(x, weight),
        lambda: ops.bmm(x[None], weight.t().expand(2, 8, 4)),
        lambda: ops.bmm(x, weight),
    )
    for call in wrong:
        with pytest.raises(BadShapeError):
            call()


def test_tracing_sees_the_shapes_of_every_operator() -> None:
    x, weight = torch.zeros(2, 8, dtype=torch.bfloat16), torch.zeros(4, 8, dtype=torch.bfloat16)
    calls: tuple[tuple[Callable[..., Tensor], tuple[Tensor | int, ...]], ...] = (
        (ops.linear, (x, weight)),
        (ops.linear, (x[0], weight, weight[:, 0])),
        (ops.linear_shards, (x, weight, 2)),
        (ops.matmul, (x, weight.t())),
        (ops.bmm, (x[None], weight.t()[None])),
    )
    for operator, arguments in calls:
        real = operator(*arguments)
        traced = operator(*(one.to("meta") if isinstance(one, Tensor) else one for one in arguments))
        assert (traced.shape, traced.dtype) == (real.shape, real.dtype)


def test_certifying_beforehand_leaves_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    ops.certify_linears([(torch.float32, 24, 56)])
    monkeypatch.setattr("microturn.kernels.cpu.probe.is_invariant", _never)
    assert ops.linear(torch.ones(1, 24), torch.ones(56, 24)).tolist() == [[24.0] * 56]


def _never(*_: object) -> bool:
    raise AssertionError("a policy was probed again")


def test_the_types_are_those_that_the_operator_tells_of() -> None:
    assert set(PRECISION) == set(cpu.TYPES)
