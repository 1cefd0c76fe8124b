"""A small decoder with the shape of the Inkling models, written with the operators, and once more without them.

Four layers: short convolutions on keys, values and both branches, norms on queries and keys, a learned bias by
distance, three sliding layers and a global one, a router with a shared expert. Sessions hold pages and the inputs of
their short convolutions, and can go back to a snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels.kv import BatchTables, CachedSession, PagePool, batch_tables
from microturn.kernels.ops.activation import swiglu
from microturn.kernels.ops.attention import attention
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.norm import add_rms_norm, rms_norm
from microturn.kernels.ops.router import route
from microturn.kernels.ops.short_conv import short_conv

WIDTH, HEADS, GROUPS, HEAD = 64, 4, 2, 16
EXPERTS, CHOSEN, SHARED, INNER = 8, 2, 1, 40
VOCABULARY, TAPS, RANK, REACH = 97, 4, 8, 32
WINDOWS = (24, 24, 24, 0)
"""Per layer, in tokens; 0 for a global one."""
PAGE, PAGES = 16, 256
EPS = 1e-6


@dataclass(frozen=True)
class Layer:
    """The weights of one layer, drawn from a normal distribution."""

    window: int
    norms: Tensor
    """(2, C): before attention and before the experts."""
    head_norms: Tensor
    """(2, D): of queries and keys."""
    qkvr: Tensor
    """(H * D + 2 * G * D + H * RANK, C): queries, keys, values, and the queries of the bias."""
    bias: Tensor
    """(REACH, RANK): bias by distance."""
    out: Tensor
    """(C, H * D)"""
    kv_convs: Tensor
    """(2, G * D, TAPS)"""
    convs: Tensor
    """(2, C, TAPS): on the branch of attention, on that of the experts."""
    router: Tensor
    """(EXPERTS + SHARED, C), float32."""
    correction: Tensor
    """(EXPERTS,), float32."""
    gate_up: Tensor
    """(EXPERTS + SHARED, 2 * INNER, C)"""
    down: Tensor
    """(EXPERTS + SHARED, C, INNER)"""


@dataclass
class LayerState:
    """What one session holds of one layer beside its pages: the last inputs of each short convolution."""

    k: Tensor
    v: Tensor
    attended: Tensor
    mixed: Tensor

    def stacked(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.k, self.v, self.attended, self.mixed


@dataclass
class Session:
    """One sequence."""

    pages: CachedSession
    layers: list[LayerState]

    def snapshot(self) -> Snapshot:
        return Snapshot(self.pages.length, list(self.layers))

    def rewind(self, snapshot: Snapshot) -> None:
        """Forget all tokens since the snapshot."""
        self.pages.truncate(snapshot.length)
        self.layers = list(snapshot.layers)


@dataclass(frozen=True)
class Snapshot:
    """Where a session was. States are replaced by every call, never changed, so they need no copy."""

    length: int
    layers: list[LayerState] = field(repr=False)


class Operators(Protocol):
    """What differs between the model with our operators and the one with PyTorch's."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor: ...

    def experts(self, x: Tensor, layer: Layer) -> Tensor: ...

    def attend(
        self, q: Tensor, cache: tuple[Tensor, Tensor], tables: BatchTables, window: int, bias: Tensor
    ) -> Tensor: ...


class Ours:
    """The operators of `microturn.kernels.ops`."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return linear(x, weight)

    def experts(self, x: Tensor, layer: Layer) -> Tensor:
        ids, weights = route(x, layer.router, layer.correction, CHOSEN, SHARED, 1.0)
        return moe(x, layer.gate_up, layer.down, ids, weights)

    def attend(
        self, q: Tensor, cache: tuple[Tensor, Tensor], tables: BatchTables, window: int, bias: Tensor
    ) -> Tensor:
        return attention(
            q,
            *cache,
            tables.page_table,
            tables.starts,
            tables.lengths,
            scale=1 / HEAD,
            window=window,
            distance_bias=bias,
        )


class Native:
    """The same mathematics as one would write it with PyTorch alone."""

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def experts(self, x: Tensor, layer: Layer) -> Tensor:
        logits = F.linear(x.float(), layer.router)
        chosen = (logits[:, :EXPERTS].sigmoid() + layer.correction).topk(CHOSEN).indices
        shared = torch.full((len(x), SHARED), EXPERTS)
        ids = torch.cat([chosen, shared], 1)
        weights = F.logsigmoid(logits.gather(1, ids)).softmax(-1)
        total = torch.zeros_like(x, dtype=torch.float32)
        for expert in range(EXPERTS + SHARED):
            token, slot = torch.where(ids == expert)
            inner = swiglu(F.linear(x[token], layer.gate_up[expert]))
            out = F.linear(inner, layer.down[expert]).float() * weights[token, slot, None]
            total.index_add_(0, token, out)
        return total.to(x.dtype)

    def attend(
        self, q: Tensor, cache: tuple[Tensor, Tensor], tables: BatchTables, window: int, bias: Tensor
    ) -> Tensor:
        parts = []
        for session, length in enumerate(tables.lengths.tolist()):
            begin, end = tables.starts[session : session + 2].tolist()
            pages = tables.page_table[session, : -(-length // PAGE)].long()
            k, v = (part[pages].transpose(1, 2).reshape(-1, GROUPS, HEAD)[:length] for part in cache)
            distance = torch.arange(length - (end - begin), length)[:, None] - torch.arange(length)
            seen = (distance >= 0) & (
                (distance < window) if window else torch.ones_like(distance, dtype=torch.bool)
            )
            index = distance.clamp(0, REACH - 1)[:, None].expand(-1, HEADS, -1)
            added = bias[begin:end].gather(2, index).masked_fill((distance >= REACH)[:, None], 0)
            mask = added.masked_fill(~seen[:, None], -torch.inf).transpose(0, 1)
            heads, k, v = (part.transpose(0, 1)[None] for part in (q[begin:end], k, v))
            out = F.scaled_dot_product_attention(
                heads, k, v, attn_mask=mask[None], scale=1 / HEAD, enable_gqa=True
            )
            parts.append(out[0].transpose(0, 1))
        return torch.cat(parts)


class SmallModel:
    """The decoder; see the module."""

    def __init__(self, dtype: torch.dtype, operators: Operators | None = None, seed: int = 1) -> None:
        draw = _Draw(torch.Generator().manual_seed(seed), dtype)
        self._operators: Operators = operators or Ours()
        self._dtype = dtype
        self._embedding, self._head = draw(VOCABULARY, WIDTH), draw(VOCABULARY, WIDTH)
        self._norm = draw(WIDTH) + 1
        self._layers = [_layer(draw, window) for window in WINDOWS]
        shape = (PAGES, GROUPS, PAGE, HEAD)
        self._caches = [(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)) for _ in WINDOWS]
        self._pool = PagePool(PAGES, PAGE)

    def open(self) -> Session:
        """A session without tokens."""
        widths = (GROUPS * HEAD, GROUPS * HEAD, WIDTH, WIDTH)
        empty = LayerState(*(torch.zeros(TAPS - 1, width, dtype=self._dtype) for width in widths))
        return Session(CachedSession(self._pool), [empty] * len(WINDOWS))

    def step(self, work: Sequence[tuple[Session, Sequence[int]]]) -> list[Tensor]:
        """Append token ids to several sessions at once; the logits (tokens, V) of each."""
        sessions, counts = [session for session, _ in work], [len(ids) for _, ids in work]
        slots = [slot for session, ids in work for slot in session.pages.append(len(ids)).slots]
        tables = batch_tables([session.pages for session in sessions], counts)
        x = self._embedding[torch.tensor([token for _, ids in work for token in ids])]
        branch = torch.zeros_like(x)
        for index in range(len(WINDOWS)):
            x, branch = self._layer(index, sessions, tables, torch.tensor(slots), x, branch)
        normed, _ = add_rms_norm(branch, x, self._norm, EPS)
        return list(self._operators.linear(normed, self._head).split(counts))

    def _layer(
        self,
        index: int,
        sessions: list[Session],
        tables: BatchTables,
        slots: Tensor,
        x: Tensor,
        branch: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One layer: the residual stream and what is still to be added to it, before and after."""
        layer = self._layers[index]
        before = [session.layers[index].stacked() for session in sessions]
        k_state, v_state, a_state, m_state = (torch.stack(parts) for parts in zip(*before, strict=True))
        normed, x = add_rms_norm(branch, x, layer.norms[0], EPS)
        sizes = (HEADS * HEAD, GROUPS * HEAD, GROUPS * HEAD, HEADS * RANK)
        q, k, v, r = (
            part.contiguous() for part in self._operators.linear(normed, layer.qkvr).split(sizes, 1)
        )
        k_state, v_state = append_kv(
            k,
            v,
            k_conv=layer.kv_convs[0],
            v_conv=layer.kv_convs[1],
            k_state=k_state,
            v_state=v_state,
            k_norm=layer.head_norms[1],
            eps=EPS,
            keys=self._caches[index][0],
            values=self._caches[index][1],
            slots=slots,
            starts=tables.starts,
        )
        q = rms_norm(q.view(-1, HEADS, HEAD), layer.head_norms[0], EPS)
        bias = self._operators.linear(r.view(-1, HEADS, RANK), layer.bias)
        attended = self._operators.attend(q, self._caches[index], tables, layer.window, bias)
        attended = self._operators.linear(attended.reshape(len(x), -1), layer.out)
        attended, a_state = short_conv(attended, layer.convs[0], a_state, tables.starts)
        normed, x = add_rms_norm(attended, x, layer.norms[1], EPS)
        mixed, m_state = short_conv(
            self._operators.experts(normed, layer), layer.convs[1], m_state, tables.starts
        )
        for row, session in enumerate(sessions):
            after = LayerState(k_state[row], v_state[row], a_state[row], m_state[row])
            session.layers = [*session.layers[:index], after, *session.layers[index + 1 :]]
        return x, mixed


class _Draw:
    """Draws weights, so scaled that every layer matters."""

    def __init__(self, generator: torch.Generator, dtype: torch.dtype) -> None:
        self._generator = generator
        self._dtype = dtype

    def __call__(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self._generator) / math.sqrt(shape[-1])
        return drawn.to(self._dtype)


def _layer(draw: _Draw, window: int) -> Layer:
    total = HEADS * HEAD + 2 * GROUPS * HEAD + HEADS * RANK
    return Layer(
        window=window,
        norms=draw(2, WIDTH) + 1,
        head_norms=draw(2, HEAD) + 1,
        qkvr=draw(total, WIDTH) * 2,
        bias=draw(REACH, RANK),
        out=draw(WIDTH, HEADS * HEAD) * 2,
        kv_convs=draw(2, GROUPS * HEAD, TAPS),
        convs=draw(2, WIDTH, TAPS),
        router=draw(EXPERTS + SHARED, WIDTH).float() * 4,
        correction=draw(EXPERTS).float(),
        gate_up=draw(EXPERTS + SHARED, 2 * INNER, WIDTH) * 2,
        down=draw(EXPERTS + SHARED, WIDTH, INNER) * 2,
    )
