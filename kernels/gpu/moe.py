"""A mixture of experts for any number of tokens, from one kernel pair: gate-up with SwiGLU, then down.

Every token-expert pair is one row of a small matrix product. Pairs of an expert share its weights in blocks of rows; what
a row is computed with never enters its chain of sums. A third kernel adds a token's slots in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu import expert_order
from microturn.kernels.gpu.activation import silu_of
from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.dot import add_product, ascending_sum, by_rows, empty_sum, tile_place
from microturn.kernels.gpu.expert_order import ExpertBlocks, most_blocks, ordered_by_expert
from microturn.kernels.gpu.launch import INTERPRET, ceil_div
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
    tile_name,
    tuned_tile,
    uses_hgmma,
)

UNSORTED_PAIRS = 16
"""So few pairs are not sorted: each is a block of its own, which saves two launches."""
COMBINE_BLOCK = 1024

_GATE_UP_HMMA: Buckets = ((16, Tile(16, 32, 128, 4, 4)), (None, Tile(32, 64, 64, 4, 4)))
_DOWN_HMMA: Buckets = ((16, Tile(16, 32, 128, 4, 4)), (None, Tile(32, 128, 64, 4, 4)))
GATE_UP: Defaults = {
    "equal": (*_GATE_UP_HMMA[:1], (64, Tile(64, 64, 64, 4, 4)), (None, Tile(128, 64, 64, 8, 4))),
    "hgmma": (
        (16, Tile(16, 64, 64, 4, 5)),
        (64, Tile(64, 64, 64, 4, 4)),
        (None, Tile(128, 128, 64, 8, 4)),
    ),
    "hmma": _GATE_UP_HMMA,
}
"""Tiles by the average number of pairs of an expert; `columns` counts inner values, each with its gate and its up."""
DOWN: Defaults = {
    "equal": (*_DOWN_HMMA[:1], (64, Tile(64, 128, 64, 4, 4)), (None, Tile(128, 128, 64, 8, 4))),
    "hgmma": (
        (16, Tile(16, 64, 128, 4, 5)),
        (64, Tile(64, 128, 64, 4, 4)),
        (None, Tile(128, 128, 64, 8, 4)),
    ),
    "hmma": _DOWN_HMMA,
}
FLOAT32: Buckets = ((None, Tile(16, 32, 32, 4, 3)),)


@triton.jit
def gate_up_kernel(
    x, weight, inner, ids, order, block_experts, block_starts, block_ends, block_count,
    pairs, experts, blocks, C, I, SLOTS,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    IS_SORTED: tl.constexpr, HAS_TAIL: tl.constexpr, SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """`swiglu(weight[expert] @ x)` of one block's pairs, rounded: a tile of inner (pairs, I)."""
    block, column_tile = tile_place(tl.program_id(0), blocks, tl.cdiv(I, COLUMNS), GROUP)
    expert, rows, row_mask = _rows_of_block(
        block,
        ids,
        order,
        block_experts,
        block_starts,
        block_ends,
        block_count,
        pairs,
        experts,
        ROWS,
        IS_SORTED,
    )
    if expert < 0:
        return
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)[None, :]
    x_tile = x + (rows // SLOTS).to(tl.int64)[:, None] * C + depth
    gate_tile = weight + expert.to(tl.int64) * 2 * I * C + columns[:, None] * C + depth
    column_mask = (columns < I)[:, None]
    gate = empty_sum(ROWS, COLUMNS, SWAP)
    up = empty_sum(ROWS, COLUMNS, SWAP)
    for start in range(0, C, DEPTH):
        x_mask = row_mask[:, None]
        weight_mask = column_mask
        if HAS_TAIL:
            x_mask = x_mask & (depth < C - start)
            weight_mask = weight_mask & (depth < C - start)
        values = tl.load(x_tile, mask=x_mask, other=0.0)
        gates = tl.load(gate_tile, mask=weight_mask, other=0.0)
        ups = tl.load(gate_tile + I * C, mask=weight_mask, other=0.0)
        gate = add_product(gate, values, gates, SWAP, INTERPRET)
        up = add_product(up, values, ups, SWAP, INTERPRET)
        x_tile += DEPTH
        gate_tile += DEPTH
    result = by_rows(silu_of(gate) * up, SWAP).to(inner.dtype.element_ty)
    place = inner + rows.to(tl.int64)[:, None] * I + columns[None, :]
    tl.store(place, result, mask=row_mask[:, None] & (columns < I)[None, :])


@triton.jit
def down_kernel(
    inner, weight, out, ids, order, block_experts, block_starts, block_ends, block_count,
    pairs, experts, blocks, C, I,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    IS_SORTED: tl.constexpr, HAS_TAIL: tl.constexpr, SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """`weight[expert] @ inner` of one block's pairs: a tile of out (pairs, C) float32."""
    block, column_tile = tile_place(tl.program_id(0), blocks, tl.cdiv(C, COLUMNS), GROUP)
    expert, rows, row_mask = _rows_of_block(
        block,
        ids,
        order,
        block_experts,
        block_starts,
        block_ends,
        block_count,
        pairs,
        experts,
        ROWS,
        IS_SORTED,
    )
    if expert < 0:
        return
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)[None, :]
    total = ascending_sum(
        inner + rows.to(tl.int64)[:, None] * I + depth,
        weight + expert.to(tl.int64) * C * I + columns[:, None] * I + depth,
        row_mask[:, None], (columns < C)[:, None], I, 1, 1,
        ROWS, COLUMNS, DEPTH, HAS_TAIL, SWAP, INTERPRET,
    )  # fmt: skip
    place = out + rows.to(tl.int64)[:, None] * C + columns[None, :]
    tl.store(place, by_rows(total, SWAP), mask=row_mask[:, None] & (columns < C)[None, :])


@triton.jit
def _rows_of_block(
    block, ids, order, block_experts, block_starts, block_ends, block_count, pairs, experts,
    ROWS: tl.constexpr, IS_SORTED: tl.constexpr,
):  # fmt: skip
    """The expert of a block, its pairs (ROWS), and which of them exist; the expert is -1 if there is nothing to do."""
    lanes = tl.arange(0, ROWS)
    if IS_SORTED:
        is_block = block < tl.load(block_count)
        expert = tl.load(block_experts + block, mask=is_block, other=-1)
        first = tl.load(block_starts + block, mask=is_block, other=0)
        row_mask = first + lanes < tl.load(block_ends + block, mask=is_block, other=0)
        rows = tl.load(order + first + lanes, mask=row_mask, other=0)
    else:
        expert = tl.load(ids + block)
        expert = tl.where(expert < experts, expert, -1)
        row_mask = lanes < 1
        rows = block + tl.zeros((ROWS,), dtype=tl.int32)
    return expert, rows, row_mask


@triton.jit
def combine_kernel(
    parts, ids, weights, out, C, experts, SLOTS: tl.constexpr, BLOCK: tl.constexpr, INTERPRET: tl.constexpr
):
    """Add a token's slots in their order, from zero; a slot of an unknown expert gives NaN."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < C
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for slot in tl.static_range(SLOTS):
        pair = token * SLOTS + slot
        expert = tl.load(ids + pair)
        weight = tl.load(weights + pair)
        weight = tl.where((expert >= 0) & (expert < experts), weight, float("nan"))
        total += weight * tl.load(parts + pair * C + columns, mask=mask, other=0.0)
    tl.store(out + token * C + columns, total.to(out.dtype.element_ty), mask=mask)


@dataclass(frozen=True)
class _Pairs:
    """What both products of one call share."""

    ids: Tensor
    """(P,) int32."""
    experts: int
    slots: int
    blocks: ExpertBlocks | None
    """None if every pair is its own block."""

    def count(self, rows: int) -> int:
        return most_blocks(len(self.ids), self.experts, rows) if self.blocks else len(self.ids)

    def arguments(self) -> tuple[Tensor | None, ...]:
        """ids, order, and the blocks: those that the kernel reads, None for the others."""
        if self.blocks is None:
            return (self.ids, None, None, None, None, None)
        cut = self.blocks
        return (None, cut.order, cut.experts, cut.starts, cut.ends, cut.count)


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """x (T, C), gate_up (E, 2I, C), down (E, C, I), ids (T, K) int32, weights (T, K) float32 -> (T, C).

    An id outside 0..E-1 makes its token NaN: finding it out on the host would wait for the GPU.
    """
    tokens, width = x.shape
    out = torch.empty((tokens, width), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    x, gate_up, down = x.contiguous(), gate_up.contiguous(), down.contiguous()
    ids, weights = ids.contiguous(), weights.contiguous()
    experts, slots, inner_width = gate_up.shape[0], ids.shape[1], down.shape[2]
    first, second = _tiles(x.dtype, tokens, slots, experts, inner_width, width, architecture(x.device))
    flat = ids.view(-1)
    cut = ordered_by_expert(flat, experts, first.rows) if len(flat) > UNSORTED_PAIRS else None
    pairs = _Pairs(flat, experts, slots, cut)
    inner = torch.empty((len(flat), inner_width), dtype=x.dtype, device=x.device)
    parts = torch.empty((len(flat), width), dtype=torch.float32, device=x.device)
    _launch_gate_up(x, gate_up, inner, pairs, first)
    _launch_down(inner, down, parts, pairs, second)
    combine_kernel[(tokens, ceil_div(width, COMBINE_BLOCK))](
        parts, flat, weights, out, width, experts, SLOTS=slots, BLOCK=COMBINE_BLOCK, INTERPRET=INTERPRET,
        num_warps=4, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def _tiles(
    dtype: torch.dtype, tokens: int, slots: int, experts: int, inner: int, width: int, arch: int
) -> tuple[Tile, Tile]:
    """Of both products; they walk through the same blocks, hence the same height."""
    if dtype == torch.float32:
        return pick(FLOAT32, tokens), pick(FLOAT32, tokens)
    mma, average = mma_class(arch), ceil_div(tokens * slots, experts)
    first = tuned_tile("moe_gate_up", tokens, inner, width, arch=arch) or pick(GATE_UP[mma], average)
    second = tuned_tile("moe_down", tokens, width, inner, arch=arch) or pick(DOWN[mma], average)
    if first.rows != second.rows:
        raise ValueError(f"moe: expected tiles of the same rows, got {first!r} and {second!r}")
    return first, second


def _launch_gate_up(x: Tensor, weight: Tensor, inner: Tensor, pairs: _Pairs, tile: Tile) -> None:
    width, inner_width = x.shape[1], inner.shape[1]
    blocks = pairs.count(tile.rows)
    gate_up_kernel[(blocks * ceil_div(inner_width, tile.columns),)](
        x, weight, inner, *pairs.arguments(), len(pairs.ids), pairs.experts, blocks, width, inner_width, pairs.slots,
        **_constants(tile, mma_class(architecture(x.device)), x.dtype, pairs.blocks is not None, width, INTERPRET),
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _launch_down(inner: Tensor, weight: Tensor, parts: Tensor, pairs: _Pairs, tile: Tile) -> None:
    width, inner_width = parts.shape[1], inner.shape[1]
    blocks = pairs.count(tile.rows)
    down_kernel[(blocks * ceil_div(width, tile.columns),)](
        inner, weight, parts, *pairs.arguments(), len(pairs.ids), pairs.experts, blocks, width, inner_width,
        **_constants(tile, mma_class(architecture(inner.device)), inner.dtype, pairs.blocks is not None, inner_width,
                     INTERPRET),
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _constants(
    tile: Tile, mma: MmaClass, dtype: torch.dtype, is_sorted: bool, length: int, interpret: bool
) -> dict[str, Any]:
    return {
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "GROUP": tile.group,
        "IS_SORTED": is_sorted,
        "HAS_TAIL": bool(length % tile.depth),
        "SWAP": mma == "hgmma" and dtype != torch.float32,
        "INTERPRET": interpret,
    }


def compile_cases() -> list[CompileCase]:
    """Every configuration that defaults and tables use."""
    cases = {case.name: case for case in _all_cases()}
    return [*cases.values(), _combine_case("bf16"), _combine_case("fp32"), *expert_order.compile_cases()]


def _all_cases() -> Iterator[CompileCase]:
    for name, defaults in (("moe_gate_up", GATE_UP), ("moe_down", DOWN)):
        for mma, buckets in defaults.items():
            for _, tile in buckets:
                yield _case(name, tile, mma, None, is_sorted=True)
            yield _case(name, buckets[0][1], mma, None, is_sorted=False)
        for table in tables():
            for _, _, tile in table.operator_tiles(name):
                yield _case(name, tile, table.mma_class, table.arch, is_sorted=True)
                yield _case(name, tile, table.mma_class, table.arch, is_sorted=False)
        yield _case(name, FLOAT32[0][1], "equal", None, is_sorted=True, dtype=torch.float32)


def _case(
    name: str,
    tile: Tile,
    mma: MmaClass,
    arch: int | None,
    *,
    is_sorted: bool,
    dtype: torch.dtype = torch.bfloat16,
) -> CompileCase:
    is_gate_up = name == "moe_gate_up"
    kind = "*fp32" if dtype == torch.float32 else "*bf16"
    ends = {"x": kind, "inner": kind} if is_gate_up else {"inner": kind, "out": "*fp32"}
    blocks = ("order", "block_experts", "block_starts", "block_ends", "block_count")
    present, absent = (blocks, ("ids",)) if is_sorted else (("ids",), blocks)
    integers = ("pairs", "experts", "blocks", "C", "I", *(("SLOTS",) if is_gate_up else ()))
    pointers = {**ends, "weight": kind, **dict.fromkeys(present, "*i32")}
    return CompileCase(
        name=f"{name}/{kind[1:]} {tile_name(tile, mma)} {'sorted' if is_sorted else 'unsorted'}",
        kernel=gate_up_kernel if is_gate_up else down_kernel,
        signature={**pointers, **dict.fromkeys(integers, "i32")},
        constexprs={**_constants(tile, mma, dtype, is_sorted, 0, False), **dict.fromkeys(absent)},
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=("C", "I"),
        architectures=architectures_of(mma, arch),
        expects_hgmma=uses_hgmma(tile, mma) and dtype != torch.float32,
    )


def _combine_case(dtype: str) -> CompileCase:
    return CompileCase(
        name=f"moe_combine/{dtype}",
        kernel=combine_kernel,
        signature={
            "parts": "*fp32", "ids": "*i32", "weights": "*fp32", "out": f"*{dtype}", "C": "i32", "experts": "i32",
        },
        constexprs={"SLOTS": 8, "BLOCK": COMBINE_BLOCK, "INTERPRET": False},
        num_warps=4,
        num_stages=1,
        aligned=("C",),
    )  # fmt: skip
