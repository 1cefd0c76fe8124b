from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import BATCHES, Evidence, Neighbours, row_evidence, same_bits
from microturn.kernels.ops import norm

pytestmark = pytest.mark.unit

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
ROWS = BATCHES if IS_LONG else (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 129, 257)
WIDTHS = (1, 5, 96, 127, 257, 1000, 4096) if IS_LONG else (5, 127, 257)
KINDS: tuple[Neighbours, ...] = ("zeros", "random", "large") if IS_LONG else ("random", "large")
WIDE = (32_768, 40_001)
DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 5e-7, torch.bfloat16: 4e-3}
EPS = 1e-6
HAS_VECTORS = torch.backends.cpu.get_cpu_capability() != "DEFAULT"


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def parts(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


def operators(width: int, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Tensor | tuple[Tensor, ...]]]:
    """Every operator of the module as a function of its rows; what else a row needs is made from the row."""
    weight = torch.randn(width, generator=torch.Generator().manual_seed(width)).to(dtype)
    return {
        "mean": norm.mean,
        "rms_norm": partial(norm.rms_norm, weight=weight, eps=EPS),
        "add_rms_norm": lambda x: norm.add_rms_norm(x, x.flip(-1), weight, EPS),
        "adaptive_rms_norm": lambda x: norm.adaptive_rms_norm(x, x.flip(-1), x * 0.5, EPS),
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("width", [1, 100, 512, 40_001])
def test_every_norm_agrees_with_float64(width: int, seed: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y, z = (torch.randn(3, 7, width, generator=generator) * 3 + 0.5).to(dtype)
    weight = torch.randn(width, generator=generator).to(dtype)
    pairs = [
        (norm.mean(x.abs()), reference.mean(x.abs())),
        (norm.rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS)),
        *zip(norm.add_rms_norm(x, y, weight, EPS), reference.add_rms_norm(x, y, weight, EPS), strict=True),
        (norm.adaptive_rms_norm(x, y, z, EPS), reference.adaptive_rms_norm(x, y, z, EPS)),
    ]
    for found, expected in pairs:
        assert found.dtype == dtype
        assert relative_error(found, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_in_every_batch(width: int, dtype: torch.dtype, threads: int) -> None:
    row = torch.randn(width, generator=torch.Generator().manual_seed(3)).to(dtype)
    for name, operator in operators(width, dtype).items():
        evidence = row_evidence(operator, row, batches=ROWS, neighbours=KINDS)
        assert evidence.is_invariant, f"{name}: {evidence.first}"


def evidence_of_wide_rows(operator: Callable[[Tensor], Tensor | tuple[Tensor, ...]], width: int) -> Evidence:
    """Of several rows, as two orders of one sum often round to the same number."""
    found = Evidence(0, 0)
    for seed in range(5):
        row = torch.randn(width, generator=torch.Generator().manual_seed(seed))
        found += row_evidence(operator, row, batches=(1, 2, 5), neighbours=("random",))
    return found


@pytest.mark.parametrize("width", WIDE)
def test_a_very_wide_row_has_the_same_bits_in_every_batch(width: int, threads: int) -> None:
    for name in ("mean", "rms_norm"):
        evidence = evidence_of_wide_rows(operators(width, torch.float32)[name], width)
        assert evidence.is_invariant, f"{name}: {evidence.first}"


def test_a_plain_sum_of_a_very_wide_row_does_not_pass_this_test(threads: int) -> None:
    evidence = evidence_of_wide_rows(lambda x: x.sum(-1), 40_001)
    assert evidence.is_invariant == (threads == 1)


@pytest.mark.skipif(not HAS_VECTORS, reason="without vector instructions PyTorch's rsqrt has no remainder")
def test_a_plain_rsqrt_of_bfloat16_does_not_pass_this_test() -> None:
    row = torch.rand(127, generator=torch.Generator().manual_seed(3)).bfloat16()
    assert row_evidence(lambda x: x.abs().rsqrt(), row, batches=ROWS, neighbours=("random",)).mismatches > 0


def test_the_number_of_threads_does_not_change_bits() -> None:
    before = torch.get_num_threads()
    x = torch.randn(70, 1000, generator=torch.Generator().manual_seed(4))
    for operator in operators(1000, torch.float32).values():
        results = []
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            results.append(torch.stack(parts(operator(x))))
        torch.set_num_threads(before)
        assert all(same_bits(results[0], other) for other in results[1:])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_layout_in_memory_does_not_change_bits(dtype: torch.dtype) -> None:
    x = torch.randn(9, 100, generator=torch.Generator().manual_seed(5)).to(dtype)
    by_columns = x.t().contiguous().t()
    shifted = torch.cat([torch.zeros(3, dtype=dtype), x.flatten()])[3:].view(9, 100)
    for name, operator in operators(100, dtype).items():
        expected = operator(x)
        for other in (by_columns, shifted):
            pairs = zip(parts(operator(other)), parts(expected), strict=True)
            assert all(same_bits(left.contiguous(), right) for left, right in pairs), name


@pytest.mark.timeout(120)  # of which most is the import
def test_the_norm_rounds_in_the_order_of_the_inkling_models() -> None:
    inkling = pytest.importorskip("transformers.models.inkling.modeling_inkling")
    module = inkling.InklingRMSNorm(64, eps=EPS).bfloat16()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(6)).bfloat16()
    with torch.no_grad():
        module.weight.copy_(torch.randn(64, generator=torch.Generator().manual_seed(7)))
        assert same_bits(norm.rms_norm(x, module.weight, EPS), module(x))


def test_no_rows_give_no_rows() -> None:
    assert norm.rms_norm(torch.zeros(0, 8), torch.ones(8), EPS).shape == (0, 8)
    assert norm.mean(torch.zeros(0, 8)).shape == (0,)


def test_what_does_not_fit_is_refused_by_name() -> None:
    x = torch.zeros(2, 8)
    with pytest.raises(BadShapeError, match=r"rms_norm: expected weight to be \(8,\).*got \(7,\)"):
        norm.rms_norm(x, torch.ones(7), EPS)
    with pytest.raises(BadShapeError, match="residual"):
        norm.add_rms_norm(x, x.bfloat16(), torch.ones(8), EPS)
    with pytest.raises(BadShapeError, match="scale"):
        norm.adaptive_rms_norm(x, x, torch.zeros(2, 7), EPS)
    with pytest.raises(BadShapeError, match="at least 1"):
        norm.mean(torch.zeros(3, 0))
