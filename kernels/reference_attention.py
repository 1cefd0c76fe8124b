"""Oracles in float64 of attention, short convolution and the cache: token by token, plain and slow.

Each function has the name and the arguments of its operator, takes any dtype, computes in float64 without rounding in
between, and returns float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels.reference import rms_norm


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    page_table: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    window: int = 0,
    sinks: int = 0,
    distance_bias: Tensor | None = None,
) -> Tensor:
    """See `microturn.kernels.ops.attention.attention`: one softmax over the keys that a token sees, and no others."""
    out = torch.zeros(q.shape, dtype=torch.float64, device=q.device)
    for session, length in enumerate(lengths.tolist()):
        begin, end = starts[session : session + 2].tolist()
        for token in range(begin, end):
            position = length - end + token
            seen = _seen(position, window, sinks)
            bias = None if distance_bias is None else distance_bias[token]
            slots = _slots(seen, page_table[session], keys.shape[2])
            out[token] = _attend(q[token], keys, values, slots, scale, _biases(bias, position, seen))
    return out


def _seen(position: int, window: int, sinks: int) -> list[int]:
    return [k for k in range(position + 1) if not window or position - k < window or k < sinks]


def _slots(positions: list[int], pages: Tensor, page: int) -> list[tuple[int, int]]:
    return [(int(pages[position // page]), position % page) for position in positions]


def _biases(bias: Tensor | None, position: int, seen: list[int]) -> Tensor | float:
    """`(H, keys)` from the token's `(H, X)`."""
    if bias is None:
        return 0.0
    reach = bias.shape[1]
    zero = torch.zeros(bias.shape[0], dtype=torch.float64, device=bias.device)
    columns = [bias[:, position - k].double() if position - k < reach else zero for k in seen]
    return torch.stack(columns, 1)


def _attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    slots: list[tuple[int, int]],
    scale: float,
    bias: Tensor | float,
) -> Tensor:
    """One token, `q (H, D)` -> `(H, D)`."""
    repeats = q.shape[0] // keys.shape[1]
    pages = torch.tensor([page for page, _ in slots], device=q.device)
    offsets = torch.tensor([offset for _, offset in slots], device=q.device)
    k = keys[pages, :, offsets].double().repeat_interleave(repeats, 1)
    v = values[pages, :, offsets].double().repeat_interleave(repeats, 1)
    scores = scale * torch.einsum("hd,khd->hk", q.double(), k) + bias
    return torch.einsum("hk,khd->hd", torch.softmax(scores, -1), v)


def short_conv(x: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.short_conv.short_conv`."""
    y = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    new_state = torch.zeros(state.shape, dtype=torch.float64, device=x.device)
    taps = weight.double()
    for session in range(state.shape[0]):
        begin, end = starts[session : session + 2].tolist()
        inputs = torch.cat((state[session], x[begin:end])).double()
        for place in range(end - begin):
            seen = inputs[place : place + taps.shape[1]]
            y[begin + place] = seen[-1] + (seen * taps.T).sum(0)
        new_state[session] = inputs[end - begin :]
    return y, new_state


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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `microturn.kernels.ops.kv.append_kv`; nothing is changed in place.

    Returns:
        The two new states, and the keys and values as they would be then.
    """
    _, groups, page, head_dim = keys.shape
    convolved_k, new_k_state = short_conv(k, k_conv, k_state, starts)
    convolved_v, new_v_state = short_conv(v, v_conv, v_state, starts)
    new_keys, new_values = keys.double().clone(), values.double().clone()
    for token, slot in enumerate(slots.tolist()):
        heads = convolved_k[token].view(groups, head_dim)
        new_keys[slot // page, :, slot % page] = rms_norm(heads, k_norm, eps)
        new_values[slot // page, :, slot % page] = convolved_v[token].view(groups, head_dim)
    return new_k_state, new_v_state, new_keys, new_values
