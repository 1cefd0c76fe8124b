"""Convolution, key norm and the store into pages, for keys and values of all new tokens in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import power_of_two, whole_rows
from microturn.kernels.gpu.segments import segment_of
from microturn.kernels.gpu.short_conv import convolved, keep_inputs


@triton.jit
def _normed(value, weight, lanes, eps, mask, D: tl.constexpr):
    """The root-mean-square norm of one head, with the roundings of the norm's own kernel."""
    wide = value.to(tl.float32)
    scaled = wide * tl.rsqrt(tl.sum(wide * wide, axis=0) / D + eps)
    return tl.load(weight + lanes, mask=mask, other=0.0).to(tl.float32) * scaled.to(value.dtype).to(
        tl.float32
    )


@triton.jit
def _append_half(
    x, weight, state, new_state, norm, pool, slots, starts, eps,
    tokens, segments, groups, page_stride, group_stride, slot_stride,
    NORMED: tl.constexpr, TAPS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr,
    BLOCK_S: tl.constexpr,
):  # fmt: skip
    """One token and group of the keys or of the values, or the inputs that one session and group keep."""
    token = tl.program_id(0)
    group = tl.program_id(1)
    lanes = tl.arange(0, BLOCK_D)
    mask = lanes < D
    channels = group * D + lanes
    width = groups * D
    if token < tokens:
        segment, first, _ = segment_of(starts, token, segments, 1, BLOCK_S)
        total = convolved(x, state, weight, segment, first, token, channels, width, mask, TAPS)
        value = total.to(x.dtype.element_ty)
        result = _normed(value, norm, lanes, eps, mask, D) if NORMED else value
        slot = tl.load(slots + token)
        place = slot // PAGE * page_stride + group * group_stride + slot % PAGE * slot_stride
        tl.store(pool + place + lanes, result.to(pool.dtype.element_ty), mask=mask)
    else:
        keep_inputs(x, state, new_state, starts, token - tokens, channels, width, mask, TAPS - 1)


@triton.jit(do_not_specialize=["tokens", "segments"])
def append_kv_kernel(
    k, v, k_conv, v_conv, k_state, v_state, new_k_state, new_v_state, k_norm, keys, values, slots, starts, eps,
    tokens, segments, groups, page_stride, group_stride, slot_stride,
    TAPS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """The third dimension of the grid chooses keys or values."""
    if tl.program_id(2) == 0:
        _append_half(
            k, k_conv, k_state, new_k_state, k_norm, keys, slots, starts, eps,
            tokens, segments, groups, page_stride, group_stride, slot_stride,
            True, TAPS, D, BLOCK_D, PAGE, BLOCK_S,
        )  # fmt: skip
    else:
        _append_half(
            v, v_conv, v_state, new_v_state, k_norm, values, slots, starts, eps,
            tokens, segments, groups, page_stride, group_stride, slot_stride,
            False, TAPS, D, BLOCK_D, PAGE, BLOCK_S,
        )  # fmt: skip


def append_kv(
    k: Tensor,
    v: Tensor,
    k_conv: Tensor,
    v_conv: Tensor,
    k_state: Tensor,
    v_state: Tensor,
    k_norm: Tensor,
    eps: float,
    keys: Tensor,
    values: Tensor,
    slots: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor]:
    """The arguments are those of `microturn.kernels.ops.kv.append_kv`; keys and values are written in place.

    `keys` and `values` must have the same strides, the last of them 1.
    """
    k, v, k_state, v_state = whole_rows(k), whole_rows(v), k_state.contiguous(), v_state.contiguous()
    new_k_state, new_v_state = torch.empty_like(k_state), torch.empty_like(v_state)
    tokens, segments = k.shape[0], k_state.shape[0]
    _, groups, page, width = keys.shape
    if tokens + segments:
        append_kv_kernel[(tokens + segments, groups, 2)](
            k, v, k_conv.contiguous(), v_conv.contiguous(), k_state, v_state, new_k_state, new_v_state,
            k_norm.contiguous(), keys, values, slots, starts, eps,
            tokens, segments, groups, *keys.stride()[:3],
            TAPS=k_conv.shape[1], D=width, BLOCK_D=power_of_two(width), PAGE=page, BLOCK_S=power_of_two(segments),
            num_warps=1, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return new_k_state, new_v_state


def compile_cases() -> list[CompileCase]:
    """Heads of 128 numbers and four taps, as Inkling has them."""
    pointers = (
        "k", "v", "k_conv", "v_conv", "k_state", "v_state", "new_k_state", "new_v_state", "k_norm", "keys", "values",
    )  # fmt: skip
    integers = ("tokens", "segments", "groups", "page_stride", "group_stride", "slot_stride")
    return [
        CompileCase(
            name="append_kv/bf16 128 4 taps",
            kernel=append_kv_kernel,
            signature={
                **dict.fromkeys(pointers, "*bf16"), "slots": "*i64", "starts": "*i32", "eps": "fp32",
                **dict.fromkeys(integers, "i32"),
            },
            constexprs={"TAPS": 4, "D": 128, "BLOCK_D": 128, "PAGE": 64, "BLOCK_S": 8},
            num_warps=1,
            num_stages=1,
            aligned=integers[3:],
            # Four numbers a lane: 8 bytes of bfloat16 at a time.
            expects_wide_loads=False,
        )
    ]  # fmt: skip
