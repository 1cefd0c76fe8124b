"""One decoder layer with a mixture of experts, whose operators can be exchanged: ours, a library's, or a mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.kernels.tune.shapes import LayerShape

EPS = 1e-6
ROUTE_SCALE = 8.0
GLOBAL_EXTENT = 1024
"""Distances that a layer without a window has a bias for; both as in transformers' Inkling configuration."""


@dataclass(frozen=True)
class LayerWeights:
    """Random weights of one layer, all on one device in one dtype except the router's, which stay in float32."""

    shape: LayerShape
    qkv: Tensor
    """(qkv_width, C): q, k, v and relative features, one after the other."""
    output: Tensor
    """(C, H*D)."""
    router: Tensor
    """(E + shared, C), float32."""
    correction: Tensor
    """(E), float32."""
    gate_up: Tensor
    """(E + shared, 2I, C)."""
    down: Tensor
    """(E + shared, C, I)."""
    k_conv: Tensor
    """(G*D, W)."""
    v_conv: Tensor
    attention_conv: Tensor
    """(C, W)."""
    expert_conv: Tensor
    head_norm: Tensor
    """(D), of queries and of keys."""
    norm: Tensor
    """(C), before attention and before the experts."""
    distances: Tensor | None
    """(X, relative): the bias at each distance per relative feature."""

    @classmethod
    def random(
        cls, shape: LayerShape, *, device: torch.device, dtype: torch.dtype, window: int, seed: int = 0
    ) -> LayerWeights:
        """Draw weights of a size that keeps the layer's output near that of its input."""
        drawn = _Normal(device, dtype, seed)
        experts, width = shape.experts + shape.shared, shape.width
        return cls(
            shape=shape,
            qkv=drawn(shape.qkv_width, width),
            output=drawn(width, shape.heads * shape.head_dim),
            router=drawn(experts, width).float(),
            correction=drawn(shape.experts).float(),
            gate_up=drawn(experts, 2 * shape.expert_width, width),
            down=drawn(experts, width, shape.expert_width),
            k_conv=drawn(shape.kv_width, shape.conv),
            v_conv=drawn(shape.kv_width, shape.conv),
            attention_conv=drawn(width, shape.conv),
            expert_conv=drawn(width, shape.conv),
            head_norm=torch.ones(shape.head_dim, device=device, dtype=dtype),
            norm=torch.ones(width, device=device, dtype=dtype),
            distances=drawn(window or GLOBAL_EXTENT, shape.relative) if shape.relative else None,
        )


@dataclass(frozen=True)
class LayerState:
    """What S sessions remember: their cache, whose newest tokens are overwritten by every step, and conv inputs.

    A step is repeated on the same state, so all calls do the same work.
    """

    sessions: int
    context: int
    """Keys per session, the newest chunk included."""
    chunk: int
    """Newest tokens per session."""
    window: int
    keys: Tensor
    """(P, G, page, D)."""
    values: Tensor
    page_table: Tensor
    """(S, max_pages) int32."""
    starts: Tensor
    """(S+1) int32."""
    lengths: Tensor
    """(S) int32."""
    slots: Tensor
    """(S*chunk) int64."""
    kv_state: Tensor
    """(S, W-1, G*D): the inputs before this step, of k and of v."""
    state: Tensor
    """(S, W-1, C): the inputs before this step, of both convolutions on the residual branches."""
    dense_keys: Tensor
    """(S, G, context, D), for operators that know no pages."""
    dense_values: Tensor

    @classmethod
    def random(
        cls,
        shape: LayerShape,
        *,
        sessions: int,
        context: int,
        chunk: int,
        page: int,
        window: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> LayerState:
        """Fill the caches of `sessions` sessions with random keys and values."""
        drawn = _Normal(device, dtype, seed=1, spread=1.0)
        pages = -(-context // page)
        pool = (sessions * pages, shape.kv_heads, page, shape.head_dim)
        dense = (sessions, shape.kv_heads, context, shape.head_dim)
        table = torch.arange(sessions * pages, dtype=torch.int32, device=device).view(sessions, pages)
        newest = torch.arange(context - chunk, context, device=device)
        first = torch.arange(sessions, device=device).unsqueeze(1) * pages * page
        return cls(
            sessions=sessions,
            context=context,
            chunk=chunk,
            window=window,
            keys=drawn(*pool),
            values=drawn(*pool),
            page_table=table,
            starts=torch.arange(0, (sessions + 1) * chunk, chunk, dtype=torch.int32, device=device),
            lengths=torch.full((sessions,), context, dtype=torch.int32, device=device),
            slots=(first + newest).flatten(),
            kv_state=drawn(sessions, shape.conv - 1, shape.kv_width),
            state=drawn(sessions, shape.conv - 1, shape.width),
            dense_keys=drawn(*dense),
            dense_values=drawn(*dense),
        )

    @property
    def tokens(self) -> int:
        """Tokens of one step of all sessions."""
        return self.sessions * self.chunk


@dataclass(frozen=True)
class Operators:
    """One way to compute each part of a layer; tensors are `(T, ...)`, sessions one after the other."""

    norm: Callable[[Tensor, Tensor], Tensor]
    """x, weight."""
    add_norm: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    """x, residual, weight; gives the normed sum and the sum."""
    linear: Callable[[Tensor, Tensor], Tensor]
    """x, weight."""
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None, LayerWeights, LayerState], Tensor]
    """q (T, H, D), k and v (T, G*D), relative features (T, H, relative): convolves, normalises and stores the
    keys and values, then attends; gives (T, H*D)."""
    conv: Callable[[Tensor, Tensor, LayerState], Tensor]
    """x (T, C), weight (C, W): a short convolution with its residual."""
    route: Callable[[Tensor, LayerWeights], tuple[Tensor, Tensor]]
    """x; gives expert ids and weights (T, K + shared)."""
    experts: Callable[[Tensor, Tensor, Tensor, LayerWeights], Tensor]
    """x, ids, weights; gives (T, C)."""


def layer_step(operators: Operators, x: Tensor, weights: LayerWeights, state: LayerState) -> Tensor:
    """One step of the layer on `(T, C)`."""
    shape = weights.shape
    normed = operators.norm(x, weights.norm)
    q, k, v, relative = _split(operators.linear(normed, weights.qkv), shape)
    q = operators.norm(q, weights.head_norm)
    attended = operators.attend(q, k, v, relative, weights, state)
    branch = operators.conv(operators.linear(attended, weights.output), weights.attention_conv, state)
    normed, total = operators.add_norm(branch, x, weights.norm)
    ids, shares = operators.route(normed, weights)
    mixed = operators.experts(normed, ids, shares, weights)
    return total + operators.conv(mixed, weights.expert_conv, state)


def _split(qkv: Tensor, shape: LayerShape) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    tokens, per_query = qkv.shape[0], shape.heads * shape.head_dim
    widths = [per_query, shape.kv_width, shape.kv_width, shape.heads * shape.relative]
    q, k, v, relative = torch.split(qkv, widths, dim=-1)
    q = q.reshape(tokens, shape.heads, shape.head_dim)
    if not shape.relative:
        return q, k.contiguous(), v.contiguous(), None
    return q, k.contiguous(), v.contiguous(), relative.reshape(tokens, shape.heads, shape.relative)


class _Normal:
    """Draws normal numbers on a device without a copy in another dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int, spread: float = 0.02) -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)
        self._device, self._dtype = device, dtype
        self._spread = spread

    def __call__(self, *sizes: int) -> Tensor:
        empty = torch.empty(sizes, device=self._device, dtype=self._dtype)
        return empty.normal_(0.0, self._spread, generator=self._generator)
