"""Finds the segment (session) of a token from the boundaries on the device, so that no launch waits for the host."""

from __future__ import annotations

import triton
import triton.language as tl

_NO_TOKEN = tl.constexpr(2**30)


@triton.jit
def segment_of(starts_ptr, place, segments, TOKENS: tl.constexpr, BLOCK_S: tl.constexpr):
    """The segment that holds `place`, and its first token and the token after its last.

    With `TOKENS` of 1 a place is a token. Otherwise it is a block of `TOKENS` tokens: segment s owns the blocks from
    `starts[s] // TOKENS + s`, at least as many as it needs, so `tokens // TOKENS + segments` blocks hold all.
    All boundaries are read at once and counted, which costs one trip to memory where a search costs several.

    Returns:
        `(segment, first, end)`; for a place after the last segment, the last segment.
    """
    lanes = tl.arange(0, BLOCK_S)
    ends = tl.load(starts_ptr + 1 + lanes, mask=lanes < segments, other=_NO_TOKEN)
    before = ends <= place if TOKENS == 1 else ends // TOKENS + lanes + 1 <= place
    segment = tl.minimum(tl.sum(before.to(tl.int32), axis=0), segments - 1)
    first = tl.load(starts_ptr + segment)
    end = tl.load(starts_ptr + segment + 1)
    return segment, first, end
