from __future__ import annotations

import math
import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import BATCHES, row_evidence, same_bits
from microturn.kernels.ops import softmax

pytestmark = pytest.mark.unit

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
ROWS = BATCHES if IS_LONG else (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 129, 257)
WIDTHS = (1, 5, 64, 127, 257, 1000) if IS_LONG else (5, 127, 257)
DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 4e-3}
WIDTH = 48


def head(vocabulary: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(vocabulary)
    return (torch.randn(vocabulary, WIDTH, generator=generator) / math.sqrt(WIDTH)).to(dtype)


def targets_of(h: Tensor, vocabulary: int) -> Tensor:
    """One id for each row, made from the row, so that it goes with the row into every batch."""
    targets: Tensor = (h[:, 0].double().abs() * 1e6).long() % vocabulary
    return targets


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("width", [1, 100, 40_001])
def test_softmax_agrees_with_float64(width: int, seed: int, dtype: torch.dtype) -> None:
    x = (torch.randn(2, 3, width, generator=torch.Generator().manual_seed(seed)) * 5).to(dtype)
    for found, expected in (
        (softmax.softmax(x), reference.softmax(x)),
        (softmax.log_softmax(x), reference.log_softmax(x)),
    ):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() <= TOLERANCE[dtype] * expected.norm()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocabulary", [7, 500, 33_333])
def test_the_head_agrees_with_float64(vocabulary: int, dtype: torch.dtype) -> None:
    h = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight = head(vocabulary, dtype)
    targets = targets_of(h, vocabulary)
    found = softmax.lm_head_logprob(h, weight, targets)
    _, logit, normaliser = softmax.lm_head_argmax(h, weight)
    expected = reference.lm_head_logprob(h, weight, targets)
    _, largest, _ = reference.lm_head_argmax(h, weight)
    # A logit of bfloat16 is rounded to about 1 / 256 of itself, and a log-probability moves by as much.
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for left, right in zip((*found, logit, normaliser), (*expected, largest, expected[1]), strict=True):
        assert left.dtype == torch.float32
        assert torch.allclose(left.double(), right, rtol=0, atol=tolerance)


def test_the_largest_logit_is_found() -> None:
    h = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(2))
    weight = head(5000, torch.float32)
    assert torch.equal(softmax.lm_head_argmax(h, weight)[0], reference.lm_head_argmax(h, weight)[0])


@pytest.mark.parametrize("vocabulary", [100, 70_000])
def test_the_lowest_id_wins_among_equals(vocabulary: int, threads: int) -> None:
    weight = torch.zeros(vocabulary, 8)
    weight[[13, 17, vocabulary // 2, vocabulary - 1]] = 1.0
    ids, logit, _ = softmax.lm_head_argmax(torch.ones(3, 8), weight)
    assert ids.tolist() == [13, 13, 13]
    assert logit.tolist() == [8.0, 8.0, 8.0]
    assert softmax.lm_head_argmax(torch.zeros(2, 8), weight)[0].tolist() == [0, 0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_in_every_batch(width: int, dtype: torch.dtype, threads: int) -> None:
    row = torch.randn(width, generator=torch.Generator().manual_seed(3)).to(dtype)
    for operator in (softmax.softmax, softmax.log_softmax):
        evidence = row_evidence(operator, row, batches=ROWS, neighbours=("random", "large"))
        assert evidence.is_invariant, evidence.first


def test_a_very_wide_row_has_the_same_bits_in_every_batch(threads: int) -> None:
    row = torch.randn(40_001, generator=torch.Generator().manual_seed(3))
    for operator in (softmax.softmax, softmax.log_softmax):
        assert row_evidence(operator, row, batches=(1, 2, 5), neighbours=("random",)).is_invariant


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("vocabulary", "batches"), [(300, ROWS), (40_001, (1, 2, 5))])
def test_the_head_gives_a_row_the_same_bits_in_every_batch(
    vocabulary: int, batches: tuple[int, ...], dtype: torch.dtype, threads: int
) -> None:
    weight = head(vocabulary, dtype)
    row = torch.randn(WIDTH, generator=torch.Generator().manual_seed(4)).to(dtype)

    def both(h: Tensor) -> tuple[Tensor, ...]:
        logprobs = softmax.lm_head_logprob(h, weight, targets_of(h, vocabulary))
        return *logprobs, *softmax.lm_head_argmax(h, weight)

    evidence = row_evidence(both, row, batches=batches, neighbours=("random",))
    assert evidence.is_invariant, evidence.first


def test_a_head_of_pytorchs_own_operators_does_not_pass_this_test() -> None:
    weight = head(300, torch.float32)
    row = torch.randn(WIDTH, generator=torch.Generator().manual_seed(4))

    def native(h: Tensor) -> Tensor:
        return torch.log_softmax(F.linear(h, weight), -1)

    assert row_evidence(native, row, batches=ROWS, neighbours=("random",)).mismatches > 0


def test_the_layout_in_memory_does_not_change_bits() -> None:
    x = torch.randn(9, 100, generator=torch.Generator().manual_seed(5))
    by_columns = x.t().contiguous().t()
    for operator in (softmax.softmax, softmax.log_softmax):
        assert same_bits(operator(by_columns).contiguous(), operator(x))


def test_what_does_not_fit_is_refused_by_name() -> None:
    h, weight = torch.zeros(2, 8), torch.zeros(5, 8)
    with pytest.raises(BadShapeError, match=r"lm_head_argmax: expected weight to be \(V, 8\)"):
        softmax.lm_head_argmax(h, torch.zeros(5, 7))
    with pytest.raises(BadShapeError, match="bfloat16"):
        softmax.lm_head_argmax(h, weight.bfloat16())
    with pytest.raises(BadShapeError, match="targets"):
        softmax.lm_head_logprob(h, weight, torch.zeros(2, dtype=torch.int32))
    with pytest.raises(BadShapeError, match=r"\(T, C\)"):
        softmax.lm_head_argmax(h[0], weight)
