"""The backbone of the native model from PyTorch's own operators, for one session: what determinism is compared with.

It computes what `microturn.interaction_model.native.decoder.Decoder` computes, with the same weights in the same
fused matrices. Keys and values lie in one piece, as nothing is shared and nothing evicted; a context beyond the window of
global layers is therefore not for it. Its bits may depend on how a session is cut into calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.interaction_model.native.attention import Attention
from microturn.interaction_model.native.backbone import Backbone, DecoderLayer
from microturn.interaction_model.native.mlp import GatedMlp
from microturn.interaction_model.native.norm import RmsNorm

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""Rows of queries `(G, M, D)`, keys and values `(G, K, D)`, what is added to the scores of the newest n keys
`(H, T, n)`, the scale -> `(G, M, D)`. M is the heads of a group times T."""


def attend_fused(rows: Tensor, keys: Tensor, values: Tensor, tail: Tensor, scale: float) -> Tensor:
    """By `scaled_dot_product_attention`, the heads of a group as rows, so that no key is copied for each of them."""
    older = keys.shape[1] - tail.shape[2]
    mask = F.pad(tail, (older, 0)).view(1, *rows.shape[:2], -1)
    found = F.scaled_dot_product_attention(rows[None], keys[None], values[None], attn_mask=mask, scale=scale)
    return found[0]


def attend_by_hand(rows: Tensor, keys: Tensor, values: Tensor, tail: Tensor, scale: float) -> Tensor:
    """By two products and a softmax; the bias is added only where there is one."""
    scores = (rows * scale) @ keys.transpose(1, 2)
    newest = scores.view(*tail.shape[:2], -1)[..., -tail.shape[2] :]
    newest += tail
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(values.dtype)
    return weights @ values


class LibraryDecoder:
    """Serves one session with PyTorch's operators.

    Args:
        backbone: where the weights come from; they are copied.
        capacity: most tokens.
        attend: how attention is computed.

    Raises:
        ValueError: the backbone has experts or scales its scores by length.
    """

    def __init__(self, backbone: Backbone, capacity: int, attend: Attend = attend_by_hand) -> None:
        if backbone.config.experts is not None or backbone.config.log_scaling is not None:
            raise ValueError(
                "backbone must be dense and without log_scaling: the alternative computes no more"
            )
        self.attend = attend
        self.length = 0
        self._layers = [_Layer(each, capacity) for each in backbone.layers if isinstance(each, DecoderLayer)]
        self._norm = _Norm.of(backbone.norm)

    @torch.inference_mode()
    def advance(self, embeddings: Tensor) -> Tensor:
        """Append tokens: `(T, C)` -> `(T, C)`, normed hidden states."""
        x = embeddings
        for layer in self._layers:
            x = layer.advance(x, self.length, self.attend)
        self.length += len(embeddings)
        return self._norm(x)

    def rewind(self, length: int, inputs: list[tuple[Tensor, ...]]) -> None:
        """Go back to a place where `inputs` were what `convolution_inputs` gave."""
        self.length = length
        for layer, own in zip(self._layers, inputs, strict=True):
            layer.inputs = own

    def convolution_inputs(self) -> list[tuple[Tensor, ...]]:
        """What the short convolutions go on with; never changed, only replaced."""
        return [layer.inputs for layer in self._layers]


class _Norm(NamedTuple):
    weight: Tensor
    eps: float

    @classmethod
    def of(cls, trained: RmsNorm) -> _Norm:
        return cls(trained.weight.detach().clone(), trained.eps)

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _Layer:
    def __init__(self, trained: DecoderLayer, capacity: int) -> None:
        attention, mlp = trained.self_attn, trained.mlp
        assert isinstance(mlp, GatedMlp)
        self._norms = [_Norm.of(norm) for norm in (trained.input_layernorm, trained.post_attention_layernorm)]
        self._attention = _Attention(attention, capacity)
        self._gate_up = torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()])
        scaled = mlp.down_proj.weight.detach().float() * mlp.global_scale.detach().float()
        self._down = scaled.to(self._gate_up.dtype)
        convolutions = (attention.k_sconv, attention.v_sconv, trained.attn_sconv, trained.mlp_sconv)
        self._taps = [each.taps.detach().float().t().contiguous() for each in convolutions]
        self.inputs: tuple[Tensor, ...] = tuple(
            torch.zeros(len(taps) - 1, taps.shape[1], dtype=self._down.dtype) for taps in self._taps
        )

    def advance(self, x: Tensor, length: int, attend: Attend) -> Tensor:
        """`(T, C)` -> `(T, C)`, the residual stream."""
        q, k, v, r = self._attention.projected(self._norms[0](x))
        k, k_inputs = _convolved(k, self._taps[0], self.inputs[0])
        v, v_inputs = _convolved(v, self._taps[1], self.inputs[1])
        attended = self._attention.attended(q, k, v, r, length, attend)
        attended, attended_inputs = _convolved(attended, self._taps[2], self.inputs[2])
        x = x + attended
        gate, up = F.linear(self._norms[1](x), self._gate_up).chunk(2, -1)
        mixed = F.linear(F.silu(gate) * up, self._down)
        mixed, mixed_inputs = _convolved(mixed, self._taps[3], self.inputs[3])
        self.inputs = (k_inputs, v_inputs, attended_inputs, mixed_inputs)
        return x + mixed


class _Attention:
    def __init__(self, trained: Attention, capacity: int) -> None:
        self._heads, self._window, self._scale = trained.heads, trained.window, trained.scale
        self._norms = [_Norm.of(norm) for norm in (trained.q_norm, trained.k_norm)]
        projections = (trained.q_proj, trained.k_proj, trained.v_proj, trained.r_proj)
        self._projection = torch.cat([part.weight.detach() for part in projections])
        self._sizes = [part.out_features for part in projections]
        self._profiles = trained.rel_logits_proj.proj.detach().flip(1).contiguous()  # (rank, X), nearest last
        self._out = trained.o_proj.weight.detach().clone()
        shape = (trained.heads.groups, capacity, trained.heads.head_dim)
        self._keys, self._values = (torch.zeros(shape, dtype=self._out.dtype) for _ in range(2))

    def projected(self, x: Tensor) -> tuple[Tensor, ...]:
        """`(T, C)`, normed, -> queries, keys, values and relative states, `(T, ...)` each."""
        parts: tuple[Tensor, ...] = F.linear(x, self._projection).split(self._sizes, 1)
        return parts

    def attended(self, q: Tensor, k: Tensor, v: Tensor, r: Tensor, length: int, attend: Attend) -> Tensor:
        """Write `k` and `v`, which have been convolved, and attend to everything: `(T, C)`."""
        heads, tokens = self._heads, len(q)
        end = length + tokens
        self._keys[:, length:end] = self._norms[1](k.view(tokens, heads.groups, -1)).transpose(0, 1)
        self._values[:, length:end] = v.view(tokens, heads.groups, -1).transpose(0, 1)
        first = max(0, length + 1 - self._window) if self._window else 0
        q = self._norms[0](q.view(tokens, heads.heads, -1))
        rows = q.transpose(0, 1).reshape(heads.groups, -1, heads.head_dim)
        tail = self._tail(r, end - first)
        found = attend(rows, self._keys[:, first:end], self._values[:, first:end], tail, self._scale)
        return F.linear(found.view(heads.heads, tokens, -1).transpose(0, 1).reshape(tokens, -1), self._out)

    def _tail(self, r: Tensor, keys: int) -> Tensor:
        """What is added to the scores of the newest keys: bias by distance, minus infinity for what is not seen."""
        states = r.view(len(r), self._heads.heads, -1).transpose(0, 1)
        beyond = -torch.inf if self._window else 0.0
        return skewed(states @ self._profiles, beyond)[..., -keys:]


def skewed(bias: Tensor, beyond: float) -> Tensor:
    """Biases at distances from X - 1 down to 0, `(H, T, X)`, as a mask of keys that end with the newest token.

    Returns:
        `(H, T, X + T - 1)`: in row t the biases begin at column t; before them is `beyond`, behind them minus infinity.
    """
    heads, tokens, reach = bias.shape
    if tokens == 1:
        return bias
    before = F.pad(bias, (tokens - 1, 0), value=beyond)
    padded = F.pad(before, (0, tokens), value=-torch.inf)
    # Rows that are longer by one than those they are read as move to the right by one each.
    width = reach + 2 * tokens - 2
    shifted = padded.flatten(1)[:, : tokens * width].view(heads, tokens, width)
    return shifted[..., tokens - 1 :]


def _convolved(x: Tensor, taps: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """The short convolution over `before (W - 1, C)` and `x (T, C)`, with its residual, and the next `before`."""
    rows = torch.cat((before, x))
    windows = rows.float().unfold(0, len(taps), 1)  # (T, C, W)
    mixed = torch.einsum("tcw,wc->tc", windows, taps)
    return (x + mixed).to(x.dtype), rows[len(x) :]
