"""The kernels of paged attention: one for few queries, one for many, and the fold of splits between them.

Both walk the keys in the same order. Keys are cut at absolute multiples of `SPLIT` into splits, and a split into blocks
of `KEYS` keys. A split starts from nothing (maximum, denominator, weighted values) and takes its blocks in ascending
order; finished splits are folded from left to right into a total. The kernel for few queries gives each split its own
program and leaves the fold to a second launch; the kernel for many queries keeps both states in registers. A block or
split that is masked as a whole changes no bit of a state, so either kernel may skip it or not.

The denominator is the product of the weights with a column of ones, for `tl.sum` would add in an order that follows the
layout of the registers and with it the number of warps; so it also sums the rounded weights that the values get. The online softmax is that of FlashAttention (Dao et al., 2022), the
merging of splits that of Flash-Decoding (2023); boundaries at absolute positions are our choice.
"""

from __future__ import annotations

import triton
import triton.language as tl

from microturn.kernels.gpu.segments import segment_of

SUM_WIDTH = tl.constexpr(16)
"""Columns of ones, all alike: the narrowest matrix that `tl.dot` takes on every processor."""
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _dot(a, b, accumulator, INTERPRET: tl.constexpr):
    """`accumulator + a @ b` in float32; the interpreter multiplies bfloat16 wrongly, so it gets float32."""
    if INTERPRET:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, accumulator, input_precision="ieee", out_dtype=tl.float32)


@triton.jit
def _fold(total_top, total_sum, total, top, denominator, weighted):
    """The total over some splits, and one split more; an empty split leaves every bit as it was."""
    new_top = tl.maximum(total_top, top)
    base = tl.where(new_top == float("-inf"), 0.0, new_top)
    old = tl.exp2(total_top - base)
    new = tl.exp2(top - base)
    return (
        new_top,
        total_sum * old[:, None] + denominator * new[:, None],
        total * old[:, None] + weighted * new[:, None],
    )


@triton.jit
def _visited(lowest, highest, window, sinks, WINDOWED: tl.constexpr, SIZE: tl.constexpr):
    """Which pieces of `SIZE` keys the queries at positions `lowest..highest` see any key of.

    Returns:
        `(leading, first, count)`: pieces 0..leading-1 hold the attention sinks, then come pieces from `first` on;
        `count` is the number of both together.
    """
    if WINDOWED:
        first = tl.maximum(lowest - window + 1, 0) // SIZE
        leading = tl.minimum((sinks + SIZE - 1) // SIZE, first)
    else:
        first = lowest * 0
        leading = lowest * 0
    return leading, first, leading + highest // SIZE - first + 1


@triton.jit
def _nth(index, leading, first):
    """The piece of keys that is visited as number `index`."""
    return tl.where(index < leading, index, first + index - leading)


@triton.jit
def _query_rows(
    starts_ptr, lengths_ptr, block, heads_tile, segments,
    REPEAT: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The rows of one program: `TOKENS` tokens times `HEADS` query heads of one key/value head.

    Returns:
        `(segment, tokens (ROWS), heads (ROWS) within the group, positions (ROWS), valid (ROWS), lowest, highest)`,
        the last two being the positions of the first and the last token.
    """
    segment, first, end = segment_of(starts_ptr, block, segments, TOKENS, BLOCK_S)
    start = block if TOKENS == 1 else first + (block - first // TOKENS - segment) * TOKENS
    row = tl.arange(0, ROWS)
    tokens = start + row // HEADS
    heads = heads_tile * HEADS + row % HEADS
    valid = (row < TOKENS * HEADS) & (tokens < end) & (heads < REPEAT)
    offset = tl.load(lengths_ptr + segment) - end
    highest = tl.minimum(start + TOKENS, end) - 1 + offset
    return segment, tokens, heads, tokens + offset, valid, start + offset, highest


@triton.jit
def _logits(
    q, k, bias_ptr, bias_rows, positions, slots, valid, scale, extent, window, sinks,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Scores in units of log 2, minus infinity where a row does not see a key; `(ROWS, KEY_BLOCK)`."""
    distance = positions[:, None] - slots[None, :]
    visible = valid[:, None] & (distance >= 0)
    if WINDOWED:
        visible = visible & ((distance < window) | (slots < sinks)[None, :])
    nothing = tl.zeros((q.shape[0], k.shape[0]), tl.float32)
    scores = _dot(q, tl.trans(k), nothing, INTERPRET) * scale
    if BIASED:
        # The place is held inside the row rather than masked: a mask in the layout of the load costs registers.
        near = tl.minimum(tl.maximum(distance, 0), extent - 1)
        bias = tl.load(bias_ptr + bias_rows[:, None] + near)
        scores += tl.where(distance < extent, bias.to(tl.float32), 0.0)
    return tl.where(visible, scores * _LOG2_E, float("-inf"))


@triton.jit
def _attend(
    top, denominator, weighted, q, bias_ptr, bias_rows, positions, valid, highest,
    block, keys_ptr, values_ptr, table_ptr, page_stride, slot_stride,
    scale, extent, window, sinks,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, KEYS: tl.constexpr,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """The state of a split after the block of keys number `block`: `(top, denominator, weighted)`."""
    slots = block * KEYS + tl.arange(0, KEYS)
    lanes = tl.arange(0, BLOCK_D)
    if PAGE % KEYS == 0:
        # The whole block lies on one page, so its address is one number.
        page = tl.load(table_ptr + block * KEYS // PAGE)
        base = page.to(tl.int64) * page_stride + (block * KEYS % PAGE) * slot_stride
        inside = (slots <= highest) & (page >= 0)
        offsets = tl.arange(0, KEYS)[:, None] * slot_stride + lanes[None, :]
    else:
        pages = tl.load(table_ptr + slots // PAGE, mask=slots <= highest, other=-1)
        base = tl.zeros((), tl.int64)
        inside = pages >= 0
        places = pages.to(tl.int64) * page_stride + (slots % PAGE) * slot_stride
        offsets = places[:, None] + lanes[None, :]
    present = inside[:, None] & (lanes < D)[None, :]
    k = tl.load(keys_ptr + base + offsets, mask=present, other=0.0)
    scores = _logits(
        q,
        k,
        bias_ptr,
        bias_rows,
        positions,
        slots,
        valid,
        scale,
        extent,
        window,
        sinks,
        BIASED,
        WINDOWED,
        INTERPRET,
    )
    new_top = tl.maximum(top, tl.max(scores, axis=1))
    zero = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores - zero[:, None])
    decay = tl.exp2(top - zero)
    v = tl.load(values_ptr + base + offsets, mask=present, other=0.0)
    weights = weights.to(v.dtype)
    ones = tl.full((KEYS, SUM_WIDTH), 1.0, tl.float32).to(v.dtype)
    denominator = _dot(weights, ones, denominator * decay[:, None], INTERPRET)
    weighted = _dot(weights, v, weighted * decay[:, None], INTERPRET)
    return new_top, denominator, weighted


@triton.jit
def _empty(ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """A state that has seen no key."""
    return (
        tl.full((ROWS,), float("-inf"), tl.float32),
        tl.zeros((ROWS, SUM_WIDTH), tl.float32),
        tl.zeros((ROWS, BLOCK_D), tl.float32),
    )


@triton.jit(do_not_specialize=["segments", "window", "sinks"])
def fused_kernel(
    out_ptr, q_ptr, keys_ptr, values_ptr, table_ptr, starts_ptr, lengths_ptr, bias_ptr,
    segments, query_heads, page_stride, group_stride, slot_stride, table_stride,
    scale, extent, window, sinks,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, SPLIT: tl.constexpr, KEYS: tl.constexpr,
    REPEAT: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK_S: tl.constexpr,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One program per block of query rows and group; it walks all splits its rows see."""
    heads_tiles: tl.constexpr = (REPEAT + HEADS - 1) // HEADS
    group = tl.program_id(1) // heads_tiles
    segment, tokens, heads, positions, valid, lowest, highest = _query_rows(
        starts_ptr, lengths_ptr, tl.program_id(0), tl.program_id(1) % heads_tiles, segments,
        REPEAT, HEADS, TOKENS, ROWS, BLOCK_S,
    )  # fmt: skip
    if highest < lowest:
        return
    rows = tokens.to(tl.int64) * query_heads + group * REPEAT + heads
    first_row = tl.min(rows, axis=0)
    bias_rows = tl.where(valid, rows - first_row, 0).to(tl.int32) * extent
    lanes = tl.arange(0, BLOCK_D)
    inside = valid[:, None] & (lanes < D)[None, :]
    q = tl.load(q_ptr + rows[:, None] * D + lanes[None, :], mask=inside, other=0.0)
    total_top, total_sum, total = _empty(ROWS, BLOCK_D)
    top, denominator, weighted = _empty(ROWS, BLOCK_D)
    leading, first, count = _visited(lowest, highest, window, sinks, WINDOWED, KEYS)
    for index in range(count):
        block = _nth(index, leading, first)
        top, denominator, weighted = _attend(
            top, denominator, weighted, q, bias_ptr + first_row * extent, bias_rows, positions, valid, highest,
            block, keys_ptr + group * group_stride, values_ptr + group * group_stride,
            table_ptr + segment * table_stride, page_stride, slot_stride,
            scale, extent, window, sinks, D, BLOCK_D, PAGE, KEYS, BIASED, WINDOWED, INTERPRET,
        )  # fmt: skip
        if block * KEYS // SPLIT != _nth(index + 1, leading, first) * KEYS // SPLIT:
            total_top, total_sum, total = _fold(total_top, total_sum, total, top, denominator, weighted)
            top, denominator, weighted = _empty(ROWS, BLOCK_D)
    total_top, total_sum, total = _fold(total_top, total_sum, total, top, denominator, weighted)
    # Rows of padding saw no key. Adding zero gives a zero that underflowed the sign that it has after masked blocks.
    divisor = tl.where(valid, tl.max(total_sum, axis=1), 1.0)
    result = (total / divisor[:, None] + 0.0).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + rows[:, None] * D + lanes[None, :], result, mask=inside)


@triton.jit(do_not_specialize=["segments", "window", "sinks", "slots"])
def split_kernel(
    partial_ptr, state_ptr, q_ptr, keys_ptr, values_ptr, table_ptr, starts_ptr, lengths_ptr, bias_ptr,
    segments, query_heads, page_stride, group_stride, slot_stride, table_stride,
    scale, extent, window, sinks, slots,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, SPLIT: tl.constexpr, KEYS: tl.constexpr,
    REPEAT: tl.constexpr, HEADS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BLOCK_S: tl.constexpr,
    BIASED: tl.constexpr, WINDOWED: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One program per block of query rows, group and visited split; it writes the state of that split."""
    heads_tiles: tl.constexpr = (REPEAT + HEADS - 1) // HEADS
    group = tl.program_id(1) // heads_tiles
    segment, tokens, heads, positions, valid, lowest, highest = _query_rows(
        starts_ptr, lengths_ptr, tl.program_id(0), tl.program_id(1) % heads_tiles, segments,
        REPEAT, HEADS, TOKENS, ROWS, BLOCK_S,
    )  # fmt: skip
    leading, first, count = _visited(lowest, highest, window, sinks, WINDOWED, SPLIT)
    if (highest < lowest) | (tl.program_id(2) >= count):
        return
    rows = tokens.to(tl.int64) * query_heads + group * REPEAT + heads
    first_row = tl.min(rows, axis=0)
    bias_rows = tl.where(valid, rows - first_row, 0).to(tl.int32) * extent
    lanes = tl.arange(0, BLOCK_D)
    inside = valid[:, None] & (lanes < D)[None, :]
    q = tl.load(q_ptr + rows[:, None] * D + lanes[None, :], mask=inside, other=0.0)
    top, denominator, weighted = _empty(ROWS, BLOCK_D)
    block = _nth(tl.program_id(2), leading, first) * (SPLIT // KEYS)
    blocks = tl.minimum(SPLIT // KEYS, highest // KEYS - block + 1)
    for index in range(blocks):
        top, denominator, weighted = _attend(
            top, denominator, weighted, q, bias_ptr + first_row * extent, bias_rows, positions, valid, highest,
            block + index, keys_ptr + group * group_stride, values_ptr + group * group_stride,
            table_ptr + segment * table_stride, page_stride, slot_stride,
            scale, extent, window, sinks, D, BLOCK_D, PAGE, KEYS, BIASED, WINDOWED, INTERPRET,
        )  # fmt: skip
    places = rows * slots + tl.program_id(2)
    tl.store(partial_ptr + places[:, None] * D + lanes[None, :], weighted, mask=inside)
    tl.store(state_ptr + places * 2, top, mask=valid)
    tl.store(state_ptr + places * 2 + 1, tl.max(denominator, axis=1), mask=valid)


@triton.jit(do_not_specialize=["segments", "window", "sinks", "slots"])
def combine_kernel(
    out_ptr, partial_ptr, state_ptr, starts_ptr, lengths_ptr,
    segments, query_heads, window, sinks, slots,
    D: tl.constexpr, BLOCK_D: tl.constexpr, SPLIT: tl.constexpr, TOKENS: tl.constexpr, BLOCK_S: tl.constexpr,
    WINDOWED: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """One program per token and head; it folds the splits that the first kernel wrote from left to right."""
    token = tl.program_id(0)
    segment, first_token, end = segment_of(starts_ptr, token, segments, 1, BLOCK_S)
    start = first_token + (token - first_token) // TOKENS * TOKENS
    offset = tl.load(lengths_ptr + segment) - end
    highest = tl.minimum(start + TOKENS, end) - 1 + offset
    _, _, count = _visited(start + offset, highest, window, sinks, WINDOWED, SPLIT)
    row = token.to(tl.int64) * query_heads + tl.program_id(1)
    lanes = tl.arange(0, BLOCK_D)
    total_top = tl.full((1,), float("-inf"), tl.float32)
    total_sum = tl.zeros((1, 1), tl.float32)
    total = tl.zeros((1, BLOCK_D), tl.float32)
    for base in range(0, count, UNROLL):
        for step in tl.static_range(UNROLL):
            index = base + step + tl.arange(0, 1)
            place = row * slots + index
            written = index < count
            top = tl.load(state_ptr + place * 2, mask=written, other=float("-inf"))
            denominator = tl.load(state_ptr + place * 2 + 1, mask=written, other=0.0)[:, None]
            held = written[:, None] & (lanes < D)[None, :]
            weighted = tl.load(partial_ptr + place[:, None] * D + lanes[None, :], mask=held, other=0.0)
            total_top, total_sum, total = _fold(total_top, total_sum, total, top, denominator, weighted)
    # Adding zero gives a zero that underflowed the sign that it has in the other kernel.
    result = (total / total_sum + 0.0).to(out_ptr.dtype.element_ty)
    where = row * D + lanes[None, :]
    tl.store(out_ptr + where, result, mask=(lanes < D)[None, :])
