"""The product of two tiles, on the operand order that `tuning.mma_class` asks for."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def empty_sum(ROWS: tl.constexpr, COLUMNS: tl.constexpr, SWAP: tl.constexpr):
    """The accumulator's start: float32 zeros `(ROWS, COLUMNS)`, transposed under SWAP."""
    if SWAP:
        zeros = tl.zeros((COLUMNS, ROWS), dtype=tl.float32)
    else:
        zeros = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    return zeros


@triton.jit
def add_product(total, x, weight, SWAP: tl.constexpr, INTERPRET: tl.constexpr):
    """`total + x @ weight.T` for x (ROWS, DEPTH) and weight (COLUMNS, DEPTH), one chain in ascending depth.

    Under SWAP the accumulator is `weight @ x.T`: the weight is the operand with 64 rows or more that Hopper's warpgroup
    multiply wants, and a few tokens are the other one. Triton's interpreter multiplies bfloat16 wrongly, hence the
    conversion there.
    """
    if INTERPRET:
        x = x.to(tl.float32)
        weight = weight.to(tl.float32)
    if SWAP:
        total = tl.dot(weight, tl.trans(x), total, input_precision="ieee")
    else:
        total = tl.dot(x, tl.trans(weight), total, input_precision="ieee")
    return total


@triton.jit
def by_rows(total, SWAP: tl.constexpr):
    """The accumulator as `(ROWS, COLUMNS)`."""
    if SWAP:
        total = tl.trans(total)
    return total


@triton.jit
def tile_place(tile, row_tiles, column_tiles, GROUP: tl.constexpr):
    """`(row tile, column tile)` of a tile's number: GROUP row tiles go through the columns side by side."""
    in_group = GROUP * column_tiles
    first = (tile // in_group) * GROUP
    height = tl.minimum(row_tiles - first, GROUP)
    inside = tile % in_group
    return first + inside % height, inside // height


@triton.jit
def ascending_sum(
    x_tile, weight_tile, row_mask, column_mask, length, x_inner, weight_inner,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, HAS_TAIL: tl.constexpr,
    SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The sum of `length` products, from zero and in ascending order.

    Args:
        x_tile: pointers (ROWS, DEPTH) to the first products' left factors.
        weight_tile: pointers (COLUMNS, DEPTH) to their right factors.
        row_mask: (ROWS, 1), which rows exist.
        column_mask: (COLUMNS, 1), which columns exist.
        length: how many products; HAS_TAIL if DEPTH does not divide it.
        x_inner: step of x_tile along the sum.
        weight_inner: step of weight_tile along the sum.
    """
    total = empty_sum(ROWS, COLUMNS, SWAP)
    inner = tl.arange(0, DEPTH)[None, :]
    for start in range(0, length, DEPTH):
        if HAS_TAIL:
            inside = inner < length - start
            x = tl.load(x_tile, mask=row_mask & inside, other=0.0)
            weight = tl.load(weight_tile, mask=column_mask & inside, other=0.0)
        else:
            x = tl.load(x_tile, mask=row_mask, other=0.0)
            weight = tl.load(weight_tile, mask=column_mask, other=0.0)
        total = add_product(total, x, weight, SWAP, INTERPRET)
        x_tile += DEPTH * x_inner
        weight_tile += DEPTH * weight_inner
    return total
