"""Matrix products in the interpreter: every path against float64, ragged sizes, memory that nobody wrote."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.gpu import gemm
from microturn.kernels.gpu.tuning import Tile, forced_tile

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 6e-4}


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected).norm() / expected.norm())


def operands(m: int, n: int, k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m + 7 * n + 31 * k)
    shapes = ((m, k), (n, k), (n,))
    x, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return x, weight, bias


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 40, 80), (17, 100, 72), (65, 33, 128)])
def test_a_linear_of_ragged_sizes_is_close_to_float64(dtype: torch.dtype, m: int, n: int, k: int) -> None:
    x, weight, bias = operands(m, n, k, dtype)
    assert relative_error(gemm.linear(x, weight, bias), reference.linear(x, weight, bias)) < TOLERANCE[dtype]
    assert relative_error(gemm.linear(x, weight), reference.linear(x, weight)) < TOLERANCE[dtype]


def test_a_linear_keeps_leading_dimensions_and_takes_views() -> None:
    x, weight, _ = operands(6, 20, 64, torch.float32)
    got = gemm.linear(x.view(2, 3, 64), weight)
    assert got.shape == (2, 3, 20)
    wide = torch.randn(6, 128)
    wide[:, ::2] = x
    assert torch.equal(gemm.linear(wide[:, ::2], weight), got.view(6, 20))
    assert gemm.linear(x[:0], weight).shape == (0, 20)


@pytest.mark.parametrize("rows", [3, gemm.SIDE_BY_SIDE_ROWS + 1])
def test_a_narrow_weight_is_cut_and_both_ways_to_add_the_parts_agree_with_float64(rows: int) -> None:
    x, weight, bias = operands(rows, 48, 1024, torch.bfloat16)
    assert gemm.split_count(48, 1024) == 2
    assert relative_error(gemm.linear(x, weight, bias), reference.linear(x, weight, bias)) < 5e-3


@pytest.mark.parametrize(
    ("n", "k", "splits"),
    [
        (4096, 4096, 1),
        (1024, 8192, 1),
        (512, 4096, 2),
        (256, 4096, 4),
        (64, 4096, 8),
        (64, 1000, 1),
        (64, 1024, 2),
    ],
)
def test_the_cut_is_a_constant_of_the_weight(n: int, k: int, splits: int) -> None:
    assert gemm.split_count(n, k) == splits
    assert k % splits == 0


def test_shards_are_partial_sums_in_float32() -> None:
    x, weight, _ = operands(9, 24, 96, torch.bfloat16)
    got = gemm.linear_shards(x, weight, 8)
    assert got.dtype == torch.float32
    assert relative_error(got, reference.linear_shards(x, weight, 8)) < 1e-6


@pytest.mark.parametrize("is_transposed", [False, True])
def test_matmul_takes_either_order_of_memory(is_transposed: bool) -> None:
    x, weight, _ = operands(18, 40, 72, torch.float32)
    b = weight.t() if is_transposed else weight.t().contiguous()
    assert relative_error(gemm.matmul(x, b), reference.matmul(x, b)) < 1e-6
    assert relative_error(gemm.matmul(x.t().contiguous().t(), b), reference.matmul(x, b)) < 1e-6


def test_a_batch_of_products_is_computed_each_for_itself() -> None:
    a, b = torch.randn(3, 5, 64), torch.randn(3, 64, 20)
    got = gemm.bmm(a, b)
    assert relative_error(got, reference.bmm(a, b)) < 1e-6
    a[1] = float("nan")
    again = gemm.bmm(a, b)
    assert again[1].isnan().all() and torch.equal(again[[0, 2]], got[[0, 2]])


@pytest.mark.parametrize(("m", "n"), [(150, 136), (16, 24)])
def test_tiles_copied_as_blocks_give_the_same_product(m: int, n: int) -> None:
    x, weight, bias = operands(m, n, 128, torch.bfloat16)
    with forced_tile("linear", Tile(64, 64, 64, 4, 2, loads="tma")):
        got = gemm.linear(x, weight, bias)
    assert relative_error(got, reference.linear(x, weight, bias)) < 5e-3


def test_rows_that_cannot_be_copied_as_blocks_take_the_other_kernel() -> None:
    x, weight, _ = operands(20, 30, 68, torch.bfloat16)
    with forced_tile("linear", Tile(64, 64, 64, 4, 2, loads="tma")):
        assert relative_error(gemm.linear(x, weight), reference.linear(x, weight)) < 5e-3


@pytest.mark.parametrize("place", [0, 3, 18])
def test_a_row_is_not_touched_by_rows_of_nan(place: int) -> None:
    x, weight, bias = operands(1, 40, 80, torch.bfloat16)
    batch = torch.full((19, 80), float("nan"), dtype=torch.bfloat16)
    batch[place] = x[0]
    got = gemm.linear(batch, weight, bias)
    assert relative_error(got[place : place + 1], reference.linear(x, weight, bias)) < 5e-3
    assert got.isnan().all(1).sum() == 18


def _raw_dot(a, b, out) -> None:  # type: ignore[no-untyped-def]  # a kernel's arguments have no Python types
    lanes = tl.arange(0, 16)
    places = lanes[:, None] * 16 + lanes[None, :]
    tl.store(out + places, tl.dot(tl.load(a + places), tl.load(b + places), input_precision="ieee"))


def test_the_interpreter_still_multiplies_bfloat16_wrongly() -> None:
    """When this fails, `add_product` needs no conversion any more."""
    a = torch.eye(16, dtype=torch.bfloat16)
    b = torch.randn(16, 16).bfloat16()
    out = torch.zeros(16, 16)
    triton.jit(_raw_dot)[(1,)](a, b, out)
    assert not torch.allclose(out, b.float())


def _raw_cast(x, out) -> None:  # type: ignore[no-untyped-def]  # a kernel's arguments have no Python types
    tl.store(out, tl.load(x).to(tl.bfloat16))


def test_the_interpreter_still_rounds_bfloat16_towards_zero() -> None:
    """When this fails, bits of bfloat16 results can be compared here; a GPU rounds to the nearest."""
    x, out = torch.tensor([1.0 + 2.0**-8 + 2.0**-9]), torch.zeros(1, dtype=torch.bfloat16)
    triton.jit(_raw_cast)[(1,)](x, out)
    assert out.item() == 1.0 and x.bfloat16().item() == 1.0 + 2.0**-7


def test_compile_cases_have_unique_names() -> None:
    names = [case.name for case in gemm.compile_cases()]
    assert len(names) == len(set(names)) > 10
