"""New keys and values: convolved, normed, and written into their pages in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import kv as cpu
from microturn.kernels.library import define
from microturn.kernels.ops.short_conv import check_short_conv

_append_kv = define(
    "append_kv(Tensor k, Tensor v, Tensor k_conv, Tensor v_conv, Tensor k_state, Tensor v_state, Tensor k_norm, "
    "float eps, Tensor(a!) keys, Tensor(b!) values, Tensor slots, Tensor starts) -> (Tensor, Tensor)",
    cpu=cpu.append_kv,
    gpu="kv:append_kv",
    fake=lambda k, v, k_conv, v_conv, k_state, v_state, *args: (
        k_state.new_empty(k_state.shape),
        v_state.new_empty(v_state.shape),
    ),
)


def append_kv(
    k: Tensor,
    v: Tensor,
    *,
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
    """Convolve new keys and values, norm every key head, and write both into the cache.

    The same as `short_conv` on both and `rms_norm` on each head of the keys, each rounded to the dtype, as in the
    Inkling models. `keys` and `values` are changed in place; nothing else is.

    Args:
        k: `(T, G * D)`, float32, bfloat16 or float16: the projected keys.
        v: as `k`: the projected values.
        k_conv: `(G * D, W)`: weight of the keys' short convolution.
        v_conv: `(G * D, W)`: that of the values.
        k_state: `(S, W - 1, G * D)`, the dtype of `k`: inputs before this call; zeros at the start.
        v_state: as `k_state`.
        k_norm: `(D,)`: weight of the norm.
        eps: of the norm.
        keys: `(P, G, page, D)`, the dtype of `k`, contiguous; written at the slots.
        values: as `keys`.
        slots: `(T,)` int64, each once: page * page_size + offset (`microturn.kernels.kv.Appended.slots`).
        starts: `(S + 1,)` int32, rising from 0 to T: which tokens belong to which session.

    Returns:
        The keys' and the values' state of the next call.

    Raises:
        BadShapeError: shapes or dtypes do not fit; on the CPU also if `starts` do not rise from 0 to T.
        IndexError: a slot is outside the pool (on the CPU).
    """
    check_short_conv("append_kv", k, k_conv, k_state, starts)
    check_short_conv("append_kv", v, v_conv, v_state, starts)
    _check_pool(k, keys, values)
    if v.shape != k.shape or v.dtype != k.dtype:
        got = (tuple(v.shape), v.dtype)
        raise BadShapeError("append_kv", "v", expected=f"{tuple(k.shape)} of {k.dtype}, as k", got=got)
    if k_norm.shape != keys.shape[3:]:
        expected = f"({keys.shape[3]},), one weight per dimension of a head"
        raise BadShapeError("append_kv", "k_norm", expected=expected, got=tuple(k_norm.shape))
    if slots.shape != k.shape[:1] or slots.dtype != torch.int64:
        got_slots = (tuple(slots.shape), slots.dtype)
        raise BadShapeError("append_kv", "slots", expected=f"({k.shape[0]},) of int64", got=got_slots)
    new_k_state, new_v_state = _append_kv(
        k, v, k_conv, v_conv, k_state, v_state, k_norm, eps, keys, values, slots, starts
    )
    return new_k_state, new_v_state


def _check_pool(k: Tensor, keys: Tensor, values: Tensor) -> None:
    if keys.dim() != 4 or keys.shape[1] * keys.shape[3] != k.shape[1] or keys.dtype != k.dtype:
        expected = f"(P, G, page, D) of {k.dtype} with G * D = {k.shape[1]}"
        raise BadShapeError("append_kv", "keys", expected=expected, got=(tuple(keys.shape), keys.dtype))
    if values.shape != keys.shape or values.dtype != keys.dtype:
        got = (tuple(values.shape), values.dtype)
        raise BadShapeError("append_kv", "values", expected=f"{tuple(keys.shape)} of {keys.dtype}", got=got)
    if not (keys.is_contiguous() and values.is_contiguous()):
        got_strides = (keys.stride(), values.stride())
        raise BadShapeError("append_kv", "keys and values", expected="contiguous", got=got_strides)
