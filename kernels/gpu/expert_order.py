"""Token-expert pairs sorted by expert, and cut into blocks of rows, without the host learning how many there are.

A stable counting sort of our own: one program per expert finds its pairs, so no atomic decides an order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import INTERPRET, power_of_two

SCAN = 1024
"""Pairs that one program looks at together."""


@triton.jit
def order_kernel(ids, order, counts, pairs, SCAN: tl.constexpr, INTERPRET: tl.constexpr):
    """Write the pairs of this program's expert, ascending, behind those of all lower experts."""
    expert = tl.program_id(0)
    lanes = tl.arange(0, SCAN)
    lower = 0
    for start in range(0, pairs, SCAN):
        found = tl.load(ids + start + lanes, mask=start + lanes < pairs, other=-1)
        lower += tl.sum(((found >= 0) & (found < expert)).to(tl.int32), axis=0)
    count = 0
    for start in range(0, pairs, SCAN):
        found = tl.load(ids + start + lanes, mask=start + lanes < pairs, other=-1)
        is_own = found == expert
        rank = tl.cumsum(is_own.to(tl.int32), axis=0)
        tl.store(order + lower + count + rank - 1, start + lanes, mask=is_own)
        count += tl.sum(is_own.to(tl.int32), axis=0)
    tl.store(counts + expert, count)


@triton.jit
def blocks_kernel(
    counts, block_experts, block_starts, block_ends, block_count, experts,
    ROWS: tl.constexpr, EXPERTS: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Cut every expert's pairs into blocks of ROWS; the last one of an expert may be shorter."""
    lanes = tl.arange(0, EXPERTS)
    count = tl.load(counts + lanes, mask=lanes < experts, other=0)
    blocks = (count + ROWS - 1) // ROWS
    first_block = tl.cumsum(blocks, axis=0) - blocks
    end = tl.cumsum(count, axis=0)
    tl.store(block_count, tl.sum(blocks, axis=0))
    for step in range(tl.max(blocks, axis=0)):
        mask = step < blocks
        tl.store(block_experts + first_block + step, lanes, mask=mask)
        tl.store(block_starts + first_block + step, end - count + step * ROWS, mask=mask)
        tl.store(block_ends + first_block + step, end, mask=mask)


@dataclass(frozen=True)
class ExpertBlocks:
    """Pairs in the order of their experts; a pair is a place in the flattened ids."""

    order: Tensor
    """(P,) int32, pairs by expert, ascending within one."""
    experts: Tensor
    """(blocks,) int32, of each block."""
    starts: Tensor
    """(blocks,) int32, its first place in `order`."""
    ends: Tensor
    """(blocks,) int32, behind the last place of its expert."""
    count: Tensor
    """(1,) int32, how many blocks there are; the rest is undefined."""


def most_blocks(pairs: int, experts: int, rows: int) -> int:
    """No choice of experts gives more blocks of this many rows."""
    return min(pairs, experts + pairs // rows)


def ordered_by_expert(ids: Tensor, experts: int, rows: int) -> ExpertBlocks:
    """Sort pairs and cut them.

    Args:
        ids: (P,) int32, contiguous; pairs whose id is not in 0..experts-1 are left out.
        experts: how many there are.
        rows: pairs per block.
    """
    pairs = len(ids)
    blocks = most_blocks(pairs, experts, rows)

    def integers(size: int) -> Tensor:
        return torch.empty(size, dtype=torch.int32, device=ids.device)

    order, counts, count = integers(pairs), integers(experts), integers(1)
    cut = ExpertBlocks(order, integers(blocks), integers(blocks), integers(blocks), count)
    order_kernel[(experts,)](
        ids, order, counts, pairs, SCAN=scan_of(pairs), INTERPRET=INTERPRET, num_warps=4, num_stages=1
    )
    blocks_kernel[(1,)](
        counts, cut.experts, cut.starts, cut.ends, cut.count, experts,
        ROWS=rows, EXPERTS=power_of_two(experts), INTERPRET=INTERPRET, num_warps=4, num_stages=1,
    )  # fmt: skip
    return cut


def scan_of(pairs: int) -> int:
    """Pairs looked at together: all of them if they are few. Integers, so no bit depends on it."""
    return min(SCAN, max(32, power_of_two(pairs)))


def compile_cases() -> list[CompileCase]:
    """Few and many pairs; Inkling-Small's 258 experts in blocks of every height."""
    orders = [
        CompileCase(
            name=f"moe_order/{scan}",
            kernel=order_kernel,
            signature={"ids": "*i32", "order": "*i32", "counts": "*i32", "pairs": "i32"},
            constexprs={"SCAN": scan, "INTERPRET": False},
            num_warps=4,
            num_stages=1,
            enable_fp_fusion=True,
            expects_wide_loads=False,
        )
        for scan in (32, 256, SCAN)
    ]
    pointers = ("counts", "block_experts", "block_starts", "block_ends", "block_count")
    blocks = [
        CompileCase(
            name=f"moe_blocks/{rows}",
            kernel=blocks_kernel,
            signature={**dict.fromkeys(pointers, "*i32"), "experts": "i32"},
            constexprs={"ROWS": rows, "EXPERTS": 512, "INTERPRET": False},
            num_warps=4,
            num_stages=1,
            enable_fp_fusion=True,
            expects_wide_loads=False,
        )
        for rows in (16, 64, 128)
    ]
    return orders + blocks
