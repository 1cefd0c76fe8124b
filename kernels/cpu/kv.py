"""New keys and values into their pages, on the CPU."""

from __future__ import annotations

from torch import Tensor

from microturn.kernels.cpu.norm import rms_norm
from microturn.kernels.cpu.short_conv import short_conv


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
    """See `microturn.kernels.ops.kv.append_kv`."""
    _, groups, page_size, head_dim = keys.shape
    shape = (k.shape[0], groups, head_dim)
    k, new_k_state = short_conv(k, k_conv, k_state, starts)
    v, new_v_state = short_conv(v, v_conv, v_state, starts)
    pages, offsets = slots // page_size, slots % page_size
    keys[pages, :, offsets] = rms_norm(k.view(shape), k_norm, eps)
    values[pages, :, offsets] = v.view(shape)
    return new_k_state, new_v_state
