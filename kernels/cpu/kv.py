"""New keys and values into their pages, on the CPU."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from microturn.kernels.cpu.norm import rms_norm
from microturn.kernels.cpu.short_conv import convolved


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
    bounds = tuple(starts.tolist())
    k, new_k_state = convolved("append_kv", k, k_conv, k_state, bounds)
    v, new_v_state = convolved("append_kv", v, v_conv, v_state, bounds)
    rows = _rows(tuple(slots.tolist()), groups, page_size)
    normed = rms_norm(k.view(shape), k_norm, eps).detach()
    keys.view(-1, head_dim).index_copy_(0, rows, normed.view(-1, head_dim))
    values.view(-1, head_dim).index_copy_(0, rows, v.detach().view(-1, head_dim))
    return new_k_state, new_v_state


@lru_cache(maxsize=16)
def _rows(slots: tuple[int, ...], groups: int, page_size: int) -> Tensor:
    """Rows of the pool seen as `(P * G * page, D)`, token by token; every layer of a step asks for the same."""
    first = [slot // page_size * groups * page_size + slot % page_size for slot in slots]
    group = torch.arange(groups, device="cpu").mul_(page_size)
    return torch.tensor(first, dtype=torch.int64, device="cpu").unsqueeze(1).add(group).view(-1)
