"""Linears in integers: exact, hence the same for every batch, every number of threads and every processor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels._errors import BadShapeError, NoKernelError
from microturn.kernels.cpu.int8 import LARGEST_ACTIVATION, LEAST, LONGEST, MOST
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.library import use_backend
from microturn.kernels.ops.int8 import linear_int8, quantize_weight

pytestmark = pytest.mark.unit

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _written_out(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """The same roundings with the sum in 64-bit integers."""
    rows = x.float()
    row_scale = torch.maximum(rows.abs().amax(-1, keepdim=True) / LARGEST_ACTIVATION, torch.tensor(1e-30))
    levels = (rows / row_scale).round().to(torch.int64)
    sums = (levels[:, None] * weight.to(torch.int64)).sum(-1)
    result = sums.float() * row_scale * scale
    return (result if bias is None else result + bias.float()).to(x.dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("inner", "outer"), ((1, 1), (100, 7), (1100, 40)))
def test_the_sum_is_exact(inner: int, outer: int, dtype: torch.dtype) -> None:
    weight, scale = quantize_weight(_random(outer, inner, seed=1, dtype=dtype))
    bias = _random(outer, seed=2, dtype=dtype)
    for rows in (1, 2, 7, 33):
        x = _random(rows, inner, seed=rows, dtype=dtype)
        assert same_bits(linear_int8(x, weight, scale), _written_out(x, weight, scale, None))
        assert same_bits(linear_int8(x, weight, scale, bias), _written_out(x, weight, scale, bias))


@pytest.mark.parametrize("sign", (1.0, -1.0))
def test_the_largest_products_do_not_saturate(sign: float) -> None:
    weight = torch.full((24, 4096), LEAST, dtype=torch.int8)
    for rows in (1, 3, 16, 50):
        found = linear_int8(torch.full((rows, 4096), sign * LARGEST_ACTIVATION), weight, torch.ones(24))
        assert (found == sign * LARGEST_ACTIVATION * LEAST * 4096).all()


def test_the_longest_sum_fits_in_32_bits() -> None:
    weight = torch.full((1, LONGEST), LEAST, dtype=torch.int8)
    found = linear_int8(torch.full((1, LONGEST), 127.0), weight, torch.ones(1))
    assert found.item() == torch.tensor(float(127 * LEAST * LONGEST)).item()


def test_a_weight_is_rounded_to_seven_bits_by_its_largest_number() -> None:
    weight = torch.tensor([[0.9, -2.0, 0.5], [0.0, 0.0, 0.0], [-630.0, 10.0, 4.9]])
    levels, scale = quantize_weight(weight)
    assert levels.tolist() == [[28, -63, 16], [0, 0, 0], [-63, 1, 0]]
    assert torch.equal(scale[[0, 2]], torch.tensor([2.0, 630.0]) / MOST)


def test_rows_of_zeros_give_the_bias() -> None:
    weight, scale = quantize_weight(_random(7, 100, seed=1))
    bias = _random(7, seed=2)
    assert torch.equal(linear_int8(torch.zeros(2, 100), weight, scale, bias), bias.expand(2, 7))


def test_the_result_is_two_percent_from_the_linear_that_is_not_rounded() -> None:
    x, weight = _random(64, 1024, seed=3), _random(256, 1024, seed=4)
    expected = reference.linear(x, weight)
    error = (linear_int8(x, *quantize_weight(weight)).double() - expected).norm() / expected.norm()
    assert 0.005 < error < 0.025


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_has_the_same_bits_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    weight, scale = quantize_weight(_random(24, 300, seed=1))
    evidence = row_evidence(
        lambda x: linear_int8(x, weight, scale),
        _random(300, seed=2, dtype=dtype),
        batches=(1, 2, 3, 4, 5, 8, 16, 17, 33, 65, 129),
        neighbours=("zeros", "large"),
    )
    assert evidence.is_invariant, f"with {threads} threads: {evidence}"


def test_leading_dimensions_are_kept() -> None:
    weight, scale = quantize_weight(_random(7, 100, seed=1))
    x = _random(2, 3, 100, seed=2)
    assert same_bits(linear_int8(x, weight, scale), linear_int8(x.view(6, 100), weight, scale).view(2, 3, 7))
    assert linear_int8(x[0, 0], weight, scale).shape == (7,)
    assert linear_int8(x[:, :0], weight, scale).shape == (2, 0, 7)


def test_there_is_no_kernel_for_a_gpu() -> None:
    weight, scale = quantize_weight(_random(7, 100, seed=1))
    with use_backend("interpreter"), pytest.raises(NoKernelError, match="linear_int8"):
        linear_int8(torch.zeros(1, 100), weight, scale)


def test_tracing_sees_the_shape() -> None:
    found = linear_int8(
        torch.zeros(2, 3, 8, dtype=torch.bfloat16, device="meta"),
        torch.zeros(5, 8, dtype=torch.int8, device="meta"),
        torch.zeros(5, device="meta"),
    )
    assert (found.shape, found.dtype) == ((2, 3, 5), torch.bfloat16)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, (weight, scale) = torch.zeros(2, 8), quantize_weight(torch.ones(4, 8))
    wrong: tuple[Callable[[], object], ...] = (
        lambda: quantize_weight(torch.zeros(8)),
        lambda: quantize_weight(torch.zeros(4, 0)),
        lambda: quantize_weight(torch.zeros(4, 8, dtype=torch.int8)),
        lambda: quantize_weight(torch.zeros(1, 1).expand(1, LONGEST + 1)),
        lambda: linear_int8(x.double(), weight, scale),
        lambda: linear_int8(torch.zeros(2, 7), weight, scale),
        lambda: linear_int8(x, weight.float(), scale),
        lambda: linear_int8(x, weight, scale[:3]),
        lambda: linear_int8(x, weight, scale.double()),
        lambda: linear_int8(x, weight, scale, torch.zeros(5)),
    )
    for call in wrong:
        with pytest.raises(BadShapeError):
            call()
