"""The alternatives: the same parts from PyTorch's own operators, whose bits may depend on the batch.

Where a library cannot do all that ours does (pages, a bias by distance, the lower edge of a chunk's window), it does
without: its keys lie in one piece, it has no bias, and every query of a chunk sees back to where the first one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

from microturn.kernels.bench.layer import EPS, ROUTE_SCALE, LayerState, LayerWeights, Operators

Experts = Callable[[Tensor, Tensor, Tensor, LayerWeights], Tensor]


def sdpa(q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Attention of the newest queries `(S, H, T, D)` over dense keys `(S, G, context, D)`, causal, without a bias."""
    queries, context = q.shape[2], keys.shape[2]
    mask = None if queries == 1 else causal_lower_right(queries, context)
    attended: Tensor = F.scaled_dot_product_attention(
        q, keys, values, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != keys.shape[1]
    )
    return attended


def experts_one_by_one(x: Tensor, ids: Tensor, shares: Tensor, weights: LayerWeights) -> Tensor:
    """Each visited expert on its tokens. Needs to know on the host which experts are visited."""
    mixed = torch.zeros(x.shape, device=x.device, dtype=torch.float32)
    for expert in set(ids.flatten().tolist()):
        rows, slots = torch.where(ids == expert)
        inner = _swiglu(F.linear(x[rows], weights.gate_up[expert]))
        part = F.linear(inner, weights.down[expert]).float() * shares[rows, slots].unsqueeze(1)
        mixed.index_add_(0, rows, part)
    return mixed.to(x.dtype)


def experts_gathered(x: Tensor, ids: Tensor, shares: Tensor, weights: LayerWeights) -> Tensor:
    """The chosen experts' weights copied per token, then batched products: quick for very few tokens only."""
    chosen = ids.long()
    inner = _swiglu(torch.einsum("tkic,tc->tki", weights.gate_up[chosen], x))
    parts = torch.einsum("tkci,tki->tkc", weights.down[chosen], inner)
    return (parts.float() * shares.unsqueeze(2)).sum(dim=1).to(x.dtype)


def experts_grouped(x: Tensor, ids: Tensor, shares: Tensor, weights: LayerWeights) -> Tensor:
    """Tokens sorted by expert, then PyTorch's grouped products; everything stays on the device."""
    tokens, slots = ids.shape
    ordered, order = ids.flatten().sort(stable=True)
    experts = torch.arange(weights.gate_up.shape[0], device=x.device, dtype=ids.dtype)
    ends = torch.searchsorted(ordered, experts, right=True).to(torch.int32)
    gathered = x[order // slots]
    inner = _swiglu(torch._grouped_mm(gathered, weights.gate_up.transpose(1, 2), offs=ends))
    parts = torch._grouped_mm(inner, weights.down.transpose(1, 2), offs=ends)
    unsorted = torch.empty_like(parts).index_copy_(0, order, parts).view(tokens, slots, -1)
    return (unsorted.float() * shares.unsqueeze(2)).sum(dim=1).to(x.dtype)


def _swiglu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, EPS)


def _add_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = x + residual
    return _norm(total, weight), total


def _convolved(x: Tensor, weight: Tensor, before: Tensor) -> Tensor:
    """A depthwise causal convolution of `(S*t, C)` after `before` (S, W-1, C), plus x."""
    sessions, taps = before.shape[0], weight.shape[1]
    new = x.view(sessions, -1, x.shape[1])
    padded = torch.cat((before, new), dim=1)
    tokens = new.shape[1]
    total = new.clone()
    for tap in range(taps):
        total.addcmul_(padded[:, tap : tap + tokens], weight[:, tap])
    return total.view_as(x)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, relative: Tensor | None, weights: LayerWeights, state: LayerState
) -> Tensor:
    del relative
    shape, chunk = weights.shape, state.chunk
    sizes = (state.sessions, chunk, shape.kv_heads, shape.head_dim)
    new_keys = _norm(_convolved(k, weights.k_conv, state.kv_state).view(sizes), weights.head_norm)
    new_values = _convolved(v, weights.v_conv, state.kv_state).view(sizes)
    state.dense_keys[:, :, -chunk:] = new_keys.transpose(1, 2)
    state.dense_values[:, :, -chunk:] = new_values.transpose(1, 2)
    seen = min(state.context, state.window + chunk - 1) if state.window else state.context
    queries = q.view(state.sessions, chunk, shape.heads, shape.head_dim).transpose(1, 2)
    keys, values = state.dense_keys[:, :, -seen:], state.dense_values[:, :, -seen:]
    attended = sdpa(queries, keys, values, 1.0 / shape.head_dim)
    return attended.transpose(1, 2).reshape(state.tokens, -1)


def _route(x: Tensor, weights: LayerWeights) -> tuple[Tensor, Tensor]:
    shape = weights.shape
    logits = F.linear(x.float(), weights.router)
    scores = logits[:, : shape.experts].sigmoid() + weights.correction
    chosen = scores.topk(shape.top_k, dim=-1).indices
    shared = torch.arange(shape.experts, shape.experts + shape.shared, device=x.device)
    ids = torch.cat((chosen, shared.expand(x.shape[0], -1)), dim=1)
    shares = F.logsigmoid(logits.gather(1, ids)).softmax(dim=-1) * ROUTE_SCALE
    return ids.to(torch.int32), shares


LIBRARY = Operators(
    norm=_norm,
    add_norm=_add_norm,
    linear=F.linear,
    attend=_attend,
    conv=lambda x, weight, state: _convolved(x, weight, state.state),
    route=_route,
    experts=experts_grouped,
)


def library_with(experts: Experts) -> Operators:
    """The library's parts with another way to run the experts."""
    return replace(LIBRARY, experts=experts)
