"""Matrix products: float32 sums in one ascending chain over K, the bias after it, one rounding.

Source of the idea that the chain must not depend on the batch: "Defeating Nondeterminism in LLM Inference" (Thinking
Machines, 2025). The kernels are ours. A narrow weight is cut along K (`split_count`) because its column tiles alone would
not keep the processors busy; few rows compute the parts side by side and add them in a second launch, many rows add
the same parts in the same order in registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.dot import add_product, ascending_sum, by_rows, empty_sum, tile_place
from microturn.kernels.gpu.launch import INTERPRET, TYPE_NAMES, ceil_div, processors
from microturn.kernels.gpu.tuning import (
    Buckets,
    Defaults,
    MmaClass,
    Tile,
    architecture,
    architectures_of,
    mma_class,
    pick,
    tables,
    tile_for,
    tile_name,
    uses_hgmma,
)

NARROW = 1024
"""A weight with fewer outputs is cut along K."""
MIN_SPLIT_DEPTH = 512
MAX_SPLITS = 8
SPLIT_STEP = 256
"""A cut lies at a multiple of this, which every tile's depth divides."""
SIDE_BY_SIDE_ROWS = 64
"""Up to so many rows the parts of a cut sum are computed by different programs."""

_HMMA: Buckets = (
    (16, Tile(16, 32, 128, 4, 4)),
    (64, Tile(32, 64, 128, 4, 4)),
    (None, Tile(32, 128, 64, 4, 4)),
)
_HGMMA: Buckets = (
    (16, Tile(16, 64, 128, 4, 5)),
    (64, Tile(64, 64, 128, 4, 4)),
    (256, Tile(64, 128, 64, 4, 4)),
    (None, Tile(128, 128, 64, 8, 4, loads="tma")),
)
_EQUAL: Buckets = (
    (16, Tile(16, 32, 128, 4, 4)),
    (64, Tile(64, 64, 64, 4, 4)),
    (256, Tile(64, 128, 64, 4, 4)),
    (None, Tile(128, 128, 64, 8, 3)),
)
DEFAULTS: Defaults = {"equal": _EQUAL, "hgmma": _HGMMA, "hmma": _HMMA}
CUT_DEFAULTS: Defaults = {
    "equal": (_EQUAL[0], (None, Tile(64, 64, 64, 4, 4))),
    "hgmma": (_HGMMA[0], (None, Tile(64, 64, 64, 4, 4))),
    "hmma": (_HMMA[0], (None, Tile(32, 64, 64, 4, 4))),
}
"""For narrow weights; smaller, as many rows keep a second accumulator in registers."""
FLOAT32: Buckets = ((16, Tile(16, 32, 32, 4, 3)), (None, Tile(64, 32, 32, 8, 3)))
"""Small, as float32 is multiplied by ordinary instructions that are unrolled."""


@triton.jit
def gemm_kernel(
    a, b, bias, c, M, N, K, depth,
    a_batch, a_row, a_inner, b_batch, b_column, b_inner, c_batch, c_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    IS_CUT: tl.constexpr, HAS_TAIL: tl.constexpr, HAS_BIAS: tl.constexpr,
    SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One tile of `c[z] = a[z] @ b[z].T`.

    Sums of `depth` terms are added from left to right until K; with `a_batch = depth` and K = depth a program of the
    second grid axis computes one such sum.
    """
    row_tile, column_tile = tile_place(tl.program_id(0), tl.cdiv(M, ROWS), tl.cdiv(N, COLUMNS), GROUP)
    batch = tl.program_id(1).to(tl.int64)
    rows = row_tile * ROWS + tl.arange(0, ROWS)
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, DEPTH)
    a_tile = a + batch * a_batch + rows.to(tl.int64)[:, None] * a_row + inner[None, :] * a_inner
    b_tile = b + batch * b_batch + columns.to(tl.int64)[:, None] * b_column + inner[None, :] * b_inner
    row_mask = (rows < M)[:, None]
    column_mask = (columns < N)[:, None]
    if IS_CUT:
        total = empty_sum(ROWS, COLUMNS, SWAP)
        for start in range(0, K, depth):
            part = ascending_sum(
                a_tile + start * a_inner, b_tile + start * b_inner, row_mask, column_mask, depth, a_inner, b_inner,
                ROWS, COLUMNS, DEPTH, HAS_TAIL, SWAP, INTERPRET,
            )  # fmt: skip
            total = total + part
    else:
        total = ascending_sum(
            a_tile, b_tile, row_mask, column_mask, K, a_inner, b_inner,
            ROWS, COLUMNS, DEPTH, HAS_TAIL, SWAP, INTERPRET,
        )  # fmt: skip
    total = by_rows(total, SWAP)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
    place = c + batch * c_batch + rows.to(tl.int64)[:, None] * c_row + columns[None, :]
    tl.store(place, total.to(c.dtype.element_ty), mask=row_mask & (columns < N)[None, :])


@triton.jit
def gemm_tma_kernel(
    a, b, c, bias, M, N, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    HAS_BIAS: tl.constexpr, SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """`c = a @ b.T` with tiles copied by the tensor memory accelerator; each program computes several tiles."""
    row_tiles = tl.cdiv(M, ROWS)
    column_tiles = tl.cdiv(N, COLUMNS)
    for tile in tl.range(tl.program_id(0), row_tiles * column_tiles, tl.num_programs(0), flatten=True):
        row_tile, column_tile = tile_place(tile, row_tiles, column_tiles, GROUP)
        total = empty_sum(ROWS, COLUMNS, SWAP)
        for start in range(0, K, DEPTH):
            x = a.load([row_tile * ROWS, start])
            w = b.load([column_tile * COLUMNS, start])
            total = add_product(total, x, w, SWAP, INTERPRET)
        total = by_rows(total, SWAP)
        if HAS_BIAS:
            columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
            total += tl.load(bias + columns, mask=columns < N, other=0.0).to(tl.float32)[None, :]
        c.store([row_tile * ROWS, column_tile * COLUMNS], total.to(c.dtype))


@triton.jit
def add_splits_kernel(
    parts, bias, out, N, part_stride, SPLITS: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr
):
    """Add the parts (SPLITS, M, N) of a cut sum from left to right, starting from zero; then the bias, then round."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < N
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * part_stride + row * N + columns, mask=mask, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + row * N + columns, total.to(out.dtype.element_ty), mask=mask)


def split_count(n: int, k: int) -> int:
    """Into how many parts the sum over K is cut: a constant of the weight (n, k), part of the numeric contract."""
    splits = MAX_SPLITS
    while splits > 1 and (splits * n > NARROW or k % (splits * SPLIT_STEP) or k < splits * MIN_SPLIT_DEPTH):
        splits //= 2
    return splits


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x (..., K) @ weight (N, K).T + bias (N)`, (..., N) in the dtype of x."""
    n, k = weight.shape
    rows = _inner_contiguous(x.reshape(-1, k))
    out = torch.empty((rows.shape[0], n), dtype=x.dtype, device=x.device)
    if out.numel():
        _multiply(rows, _inner_contiguous(weight), None if bias is None else bias.contiguous(), out)
    return out.view(*x.shape[:-1], n)


def linear_shards(x: Tensor, weight: Tensor, shards: int) -> Tensor:
    """Partial sums over K cut in equal parts: x (T, K), weight (N, K) -> (shards, T, N) float32."""
    (rows, k), n = x.shape, weight.shape[0]
    out = torch.empty((shards, rows, n), dtype=torch.float32, device=x.device)
    if out.numel():
        _side_by_side(_inner_contiguous(x), _inner_contiguous(weight), out, k // shards)
    return out


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a (M, K) @ b (K, N)`, (M, N)."""
    out = torch.empty((a.shape[0], b.shape[1]), dtype=a.dtype, device=a.device)
    if out.numel():
        _multiply(a, b.t(), None, out)
    return out


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """`a (B, M, K) @ b (B, K, N)`, (B, M, N); every product is computed as `matmul` without a cut of K."""
    out = torch.empty((a.shape[0], a.shape[1], b.shape[2]), dtype=a.dtype, device=a.device)
    if out.numel():
        b = b.transpose(1, 2)
        batch_strides = (a.stride(0), b.stride(0), out.stride(0))
        tile = _tile(a.dtype, a.shape[1], b.shape[1], a.shape[2], a.device)
        _launch(a[0], b[0], None, out[0], tile, a.shape[2], batches=a.shape[0], batch_strides=batch_strides)
    return out


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """`a (M, K) @ b (N, K).T + bias` into out (M, N)."""
    (m, k), n = a.shape, b.shape[0]
    splits = split_count(n, k)
    if splits > 1 and m <= SIDE_BY_SIDE_ROWS:
        parts = torch.empty((splits, m, n), dtype=torch.float32, device=a.device)
        _side_by_side(a, b, parts, k // splits)
        _add_splits(parts, bias, out)
        return
    tile = _tile(a.dtype, m, n, k, a.device, is_cut=splits > 1)
    if tile.loads == "tma" and splits == 1 and _is_tma_ready(a, b, out):
        _launch_tma(a, b, bias, out, tile)
    else:
        _launch(a, b, bias, out, tile, k // splits)


def _tile(dtype: torch.dtype, m: int, n: int, k: int, device: torch.device, *, is_cut: bool = False) -> Tile:
    if dtype == torch.float32:
        return pick(FLOAT32, m)
    defaults = CUT_DEFAULTS if is_cut else DEFAULTS
    return tile_for("linear", m, n, k, arch=architecture(device), defaults=defaults)


def _side_by_side(a: Tensor, b: Tensor, parts: Tensor, depth: int) -> None:
    """The sums of each `depth` terms into parts (splits, M, N)."""
    splits, m, n = parts.shape
    tile = _tile(a.dtype, m, n, a.shape[1], a.device)
    strides = (depth * a.stride(1), depth * b.stride(1), parts.stride(0))
    _launch(a[:, :depth], b[:, :depth], None, parts[0], tile, depth, batches=splits, batch_strides=strides)


def _launch(
    a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor, tile: Tile, depth: int,
    *, batches: int = 1, batch_strides: tuple[int, int, int] = (0, 0, 0),
) -> None:  # fmt: skip
    (m, k), n = a.shape, b.shape[0]
    grid = (ceil_div(m, tile.rows) * ceil_div(n, tile.columns), batches)
    a_batch, b_batch, c_batch = batch_strides
    gemm_kernel[grid](
        a, b, bias, out, m, n, k, depth,
        a_batch, a.stride(0), a.stride(1), b_batch, b.stride(0), b.stride(1), c_batch, out.stride(0),
        **_constants(tile, a.dtype, is_cut=depth < k, has_tail=bool(depth % tile.depth), has_bias=bias is not None,
                     swap=_swaps(a.dtype, architecture(a.device)), interpret=INTERPRET),
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _constants(
    tile: Tile,
    dtype: torch.dtype,
    *,
    is_cut: bool,
    has_tail: bool,
    has_bias: bool,
    swap: bool,
    interpret: bool,
) -> dict[str, Any]:
    return {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "GROUP": tile.group,
        "IS_CUT": is_cut,
        "HAS_TAIL": has_tail,
        "HAS_BIAS": has_bias,
        "SWAP": swap,
        "INTERPRET": interpret,
    }


def _swaps(dtype: torch.dtype, arch: int) -> bool:
    return dtype != torch.float32 and mma_class(arch) == "hgmma"


def _launch_tma(a: Tensor, b: Tensor, bias: Tensor | None, out: Tensor, tile: Tile) -> None:
    (m, k), n = a.shape, b.shape[0]
    tiles = ceil_div(m, tile.rows) * ceil_div(n, tile.columns)
    gemm_tma_kernel[(min(tiles, processors(a.device)),)](
        TensorDescriptor.from_tensor(a, [tile.rows, tile.depth]),
        TensorDescriptor.from_tensor(b, [tile.columns, tile.depth]),
        TensorDescriptor.from_tensor(out, [tile.rows, tile.columns]),
        bias, m, n, k,
        ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, GROUP=tile.group, HAS_BIAS=bias is not None,
        SWAP=_swaps(a.dtype, architecture(a.device)), INTERPRET=INTERPRET,
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _is_tma_ready(*matrices: Tensor) -> bool:
    """Whether rows are contiguous and begin at multiples of 16 bytes."""
    return all(
        one.stride(1) == 1 and one.stride(0) * one.element_size() % 16 == 0 and one.data_ptr() % 16 == 0
        for one in matrices
    )


def _add_splits(parts: Tensor, bias: Tensor | None, out: Tensor) -> None:
    splits, m, n = parts.shape
    block = 256
    add_splits_kernel[(m, ceil_div(n, block))](
        parts, bias, out, n, parts.stride(0), SPLITS=splits, HAS_BIAS=bias is not None, BLOCK=block,
        num_warps=4, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip


def _inner_contiguous(matrix: Tensor) -> Tensor:
    return matrix if matrix.stride(-1) == 1 else matrix.contiguous()


def compile_cases() -> list[CompileCase]:
    """Every configuration that defaults and tables use."""
    cases = {case.name: case for case in _all_cases()}
    return list(cases.values())


def _all_cases() -> Iterator[CompileCase]:
    for mma, buckets in DEFAULTS.items():
        for _, tile in buckets:
            yield from _whole_cases(tile, mma, None)
        for _, tile in CUT_DEFAULTS[mma]:
            yield from _cut_cases(tile, mma, None)
    for table in tables():
        for n, k, tile in table.operator_tiles("linear"):
            cases_of = _cut_cases if split_count(n, k) > 1 else _whole_cases
            yield from cases_of(tile, table.mma_class, table.arch)
    for _, tile in FLOAT32:
        for is_cut in (False, True):
            yield _case(tile, "equal", None, dtype=torch.float32, is_cut=is_cut)
    yield _add_splits_case()


def _whole_cases(tile: Tile, mma: MmaClass, arch: int | None) -> Iterator[CompileCase]:
    yield _case(tile, mma, arch)
    if tile.loads == "tma":
        yield _tma_case(tile, mma, arch)


def _cut_cases(tile: Tile, mma: MmaClass, arch: int | None) -> Iterator[CompileCase]:
    yield _case(tile, mma, arch)
    yield _case(tile, mma, arch, is_cut=True)


def _case(
    tile: Tile, mma: MmaClass, arch: int | None, *, dtype: torch.dtype = torch.bfloat16, is_cut: bool = False
) -> CompileCase:
    name = TYPE_NAMES[dtype]
    integers = ("M", "N", "K", "depth", "a_batch", "a_row", "b_batch", "b_column", "c_batch", "c_row")
    swap = mma == "hgmma" and dtype != torch.float32
    constants = _constants(
        tile, dtype, is_cut=is_cut, has_tail=False, has_bias=True, swap=swap, interpret=False
    )
    pointers = {part: f"*{name}" for part in ("a", "b", "bias", "c")}
    return CompileCase(
        name=f"gemm/{name} {tile_name(tile, mma)}{' cut' if is_cut else ''}",
        kernel=gemm_kernel,
        signature={**pointers, **dict.fromkeys(integers, "i32")},
        constexprs={**constants, "a_inner": 1, "b_inner": 1},
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=integers[1:],
        architectures=architectures_of(mma, arch),
        expects_hgmma=uses_hgmma(tile, mma) and dtype != torch.float32,
    )


def _tma_case(tile: Tile, mma: MmaClass, arch: int | None) -> CompileCase:
    return CompileCase(
        name=f"gemm_tma/bf16 {tile_name(tile, mma)}",
        kernel=gemm_tma_kernel,
        signature={
            "a": f"tensordesc<bf16[{tile.rows}, {tile.depth}]>",
            "b": f"tensordesc<bf16[{tile.columns}, {tile.depth}]>",
            "c": f"tensordesc<bf16[{tile.rows}, {tile.columns}]>",
            "bias": "*bf16",
            **dict.fromkeys(("M", "N", "K"), "i32"),
        },
        constexprs={
            "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "GROUP": tile.group,
            "HAS_BIAS": True, "SWAP": mma == "hgmma", "INTERPRET": False,
        },
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=("N", "K"),
        architectures=tuple(a for a in architectures_of(mma, arch) if a >= 90),
        expects_hgmma=uses_hgmma(tile, mma),
    )  # fmt: skip


def _add_splits_case() -> CompileCase:
    return CompileCase(
        name="gemm_add_splits/bf16 8",
        kernel=add_splits_kernel,
        signature={"parts": "*fp32", "bias": "*bf16", "out": "*bf16", "N": "i32", "part_stride": "i32"},
        constexprs={"SPLITS": 8, "HAS_BIAS": True, "BLOCK": 256},
        num_warps=4,
        num_stages=1,
        aligned=("N", "part_stride"),
        expects_wide_loads=False,
    )
