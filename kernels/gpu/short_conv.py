"""Short causal convolution per channel: one program per token, and one per session for the inputs to keep.

Products and sums are rounded one by one, in the order of the CPU's: taps from the oldest to the newest, then the input
itself.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import power_of_two
from microturn.kernels.gpu.segments import segment_of

BLOCK_CHANNELS = 512


@triton.jit
def past_input(x, state, segment, first, place, channels, width, mask, HISTORY: tl.constexpr):
    """The inputs at token `place` of a segment that begins at token `first`; before that, those of its state."""
    is_new = place >= first
    new = tl.load(x + place.to(tl.int64) * width + channels, mask=mask & is_new, other=0.0)
    row = segment.to(tl.int64) * HISTORY + (place - first + HISTORY)
    old = tl.load(state + row * width + channels, mask=mask & (place < first), other=0.0)
    return tl.where(is_new, new, old)


@triton.jit
def convolved(x, state, weight, segment, first, token, channels, width, mask, TAPS: tl.constexpr):
    """One token's output in float32."""
    total = tl.zeros(channels.shape, tl.float32)
    for tap in tl.static_range(TAPS):
        place = token + (tap - (TAPS - 1))
        value = past_input(x, state, segment, first, place, channels, width, mask, TAPS - 1).to(tl.float32)
        total += value * tl.load(weight + channels * TAPS + tap, mask=mask, other=0.0).to(tl.float32)
    return total + tl.load(x + token.to(tl.int64) * width + channels, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def keep_inputs(x, state, new_state, starts, segment, channels, width, mask, HISTORY: tl.constexpr):
    """Write the last `HISTORY` inputs of one segment."""
    first = tl.load(starts + segment)
    end = tl.load(starts + segment + 1)
    for index in tl.static_range(HISTORY):
        place = end + (index - HISTORY)
        value = past_input(x, state, segment, first, place, channels, width, mask, HISTORY)
        row = segment.to(tl.int64) * HISTORY + index
        tl.store(new_state + row * width + channels, value, mask=mask)


@triton.jit(do_not_specialize=["tokens", "segments"])
def short_conv_kernel(
    x, weight, state, starts, out, new_state, tokens, segments, width,
    TAPS: tl.constexpr, BLOCK: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Programs up to `tokens` compute one token each, the others keep one session's inputs each."""
    token = tl.program_id(0)
    channels = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = channels < width
    if token < tokens:
        segment, first, _ = segment_of(starts, token, segments, 1, BLOCK_S)
        total = convolved(x, state, weight, segment, first, token, channels, width, mask, TAPS)
        place = token.to(tl.int64) * width + channels
        tl.store(out + place, total.to(out.dtype.element_ty), mask=mask)
    else:
        keep_inputs(x, state, new_state, starts, token - tokens, channels, width, mask, TAPS - 1)


def short_conv(x: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """x (T, C), weight (C, W), state (S, W-1, C), starts (S+1) -> like x, and like state."""
    rows, held = x.contiguous(), state.contiguous()
    out, new_state = torch.empty_like(rows), torch.empty_like(held)
    (tokens, width), segments = x.shape, state.shape[0]
    block = min(BLOCK_CHANNELS, power_of_two(width))
    if tokens + segments:
        short_conv_kernel[(tokens + segments, triton.cdiv(width, block))](
            rows, weight.contiguous(), held, starts, out, new_state, tokens, segments, width,
            TAPS=weight.shape[1], BLOCK=block, BLOCK_S=power_of_two(segments),
            num_warps=4, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out, new_state


def compile_cases() -> list[CompileCase]:
    """Inkling's four taps."""
    pointers = ("x", "weight", "state", "out", "new_state")
    return [
        CompileCase(
            name="short_conv/bf16 4 taps",
            kernel=short_conv_kernel,
            signature={
                **dict.fromkeys(pointers, "*bf16"), "starts": "*i32",
                **dict.fromkeys(("tokens", "segments", "width"), "i32"),
            },
            constexprs={"TAPS": 4, "BLOCK": BLOCK_CHANNELS, "BLOCK_S": 8},
            num_warps=4,
            num_stages=1,
            aligned=("width",),
            # Four channels a lane: 8 bytes of bfloat16 at a time.
            expects_wide_loads=False,
        )
    ]  # fmt: skip
