"""One layer by the batch-invariant operators, on weights laid out for few tokens at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.attention import Attention
from microturn.interaction_model.native.backbone import DecoderLayer
from microturn.interaction_model.native.cache import ConvolutionInputs
from microturn.interaction_model.native.experts import MixtureOfExperts
from microturn.interaction_model.native.mlp import GatedMlp
from microturn.interaction_model.native.norm import RmsNorm
from microturn.kernels.kv import BatchTables
from microturn.kernels.ops.activation import swiglu
from microturn.kernels.ops.attention import attention
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.norm import add_rms_norm, rms_norm
from microturn.kernels.ops.router import route
from microturn.kernels.ops.short_conv import prepare_taps, short_conv


class Reach(NamedTuple):
    """What one layer may see and write in one call."""

    keys: Tensor
    """(pages, G, page, D)"""
    values: Tensor
    tables: BatchTables
    slots: Tensor
    """(T,) int64"""
    window: int
    sinks: int
    factors: Tensor | None
    """(T, 1, 1) float32: what scores are scaled with; None for nothing."""


class ServedNorm(NamedTuple):
    """A copy of a norm."""

    weight: Tensor
    eps: float

    @classmethod
    def of(cls, norm: RmsNorm) -> ServedNorm:
        """Copy a norm that is trained."""
        return cls(norm.weight.detach().clone(), norm.eps)


class ServedLayer:
    """A layer of the decoder. It holds copies of the weights: later training of `layer` does not reach it.

    Args:
        layer: where the weights come from.
    """

    def __init__(self, layer: DecoderLayer) -> None:
        self._attention = _ServedAttention(layer.self_attn)
        self._mlp = _served_mlp(layer.mlp)
        self._attended_taps = prepare_taps(layer.attn_sconv.taps)
        self._mixed_taps = prepare_taps(layer.mlp_sconv.taps)
        self._input_norm = ServedNorm.of(layer.input_layernorm)
        self._post_norm = ServedNorm.of(layer.post_attention_layernorm)

    def matrices(self) -> Iterator[Tensor]:
        """The weights of linears, for `prepare_linears`."""
        yield from self._attention.matrices()
        yield from self._mlp.matrices()

    def advance(
        self, x: Tensor, branch: Tensor, inputs: ConvolutionInputs, reach: Reach
    ) -> tuple[Tensor, Tensor, ConvolutionInputs]:
        """Compute new tokens.

        Args:
            x: `(T, C)`: the residual stream before the layer, without `branch`.
            branch: `(T, C)`: what the layer before still has to add to it.
            inputs: of the short convolutions, each `(S, W - 1, ...)`.
            reach: where keys and values are.

        Returns:
            `x` and `branch` behind the layer, and the inputs of the next call.
        """
        starts = reach.tables.starts
        normed, x = add_rms_norm(branch, x, self._input_norm.weight, self._input_norm.eps)
        attended, k, v = self._attention.advance(normed, inputs, reach)
        attended, attended_inputs = short_conv(attended, self._attended_taps, inputs.attended, starts)
        normed, x = add_rms_norm(attended, x, self._post_norm.weight, self._post_norm.eps)
        mixed, mixed_inputs = short_conv(self._mlp.advance(normed), self._mixed_taps, inputs.mixed, starts)
        return x, mixed, ConvolutionInputs(k, v, attended_inputs, mixed_inputs)


class _ServedAttention:
    def __init__(self, trained: Attention) -> None:
        self._heads = trained.heads
        self._scale = trained.scale
        self._q_norm, self._k_norm = ServedNorm.of(trained.q_norm), ServedNorm.of(trained.k_norm)
        self._k_taps, self._v_taps = prepare_taps(trained.k_sconv.taps), prepare_taps(trained.v_sconv.taps)
        projections = (trained.q_proj, trained.k_proj, trained.v_proj, trained.r_proj)
        self._projection = torch.cat([part.weight.detach() for part in projections])
        self._sizes = [part.out_features for part in projections]
        self._profiles = _copy(trained.rel_logits_proj.proj.t())
        self._out = _copy(trained.o_proj.weight)

    def matrices(self) -> Iterator[Tensor]:
        yield from (self._projection, self._profiles, self._out)

    def advance(self, x: Tensor, inputs: ConvolutionInputs, reach: Reach) -> tuple[Tensor, Tensor, Tensor]:
        """`(T, C)`, normed, -> `(T, C)`, and the next inputs of the keys' and values' convolutions."""
        q, k, v, r = (part.contiguous() for part in linear(x, self._projection).split(self._sizes, 1))
        k_inputs, v_inputs = append_kv(
            k,
            v,
            k_conv=self._k_taps,
            v_conv=self._v_taps,
            k_state=inputs.k,
            v_state=inputs.v,
            k_norm=self._k_norm.weight,
            eps=self._k_norm.eps,
            keys=reach.keys,
            values=reach.values,
            slots=reach.slots,
            starts=reach.tables.starts,
        )
        q = rms_norm(q.view(len(x), self._heads.heads, -1), self._q_norm.weight, self._q_norm.eps)
        r = r.view(len(x), self._heads.heads, -1)
        if reach.factors is not None:
            q, r = ((part * reach.factors).to(x.dtype) for part in (q, r))
        out = attention(
            q,
            reach.keys,
            reach.values,
            reach.tables.page_table,
            reach.tables.starts,
            reach.tables.lengths,
            scale=self._scale,
            window=reach.window,
            sinks=reach.sinks,
            distance_bias=linear(r, self._profiles),
        )
        return linear(out.view(len(x), -1), self._out), k_inputs, v_inputs


class _ServedDense:
    def __init__(self, trained: GatedMlp) -> None:
        self._gate_up = torch.cat([trained.gate_proj.weight.detach(), trained.up_proj.weight.detach()])
        # The factor is learned once and the same for all tokens, so it goes into the matrix.
        scaled = trained.down_proj.weight.detach().float() * trained.global_scale.detach().float()
        self._down = scaled.to(self._gate_up.dtype)

    def matrices(self) -> Iterator[Tensor]:
        yield from (self._gate_up, self._down)

    def advance(self, x: Tensor) -> Tensor:
        return linear(swiglu(linear(x, self._gate_up)), self._down)


class _ServedExperts:
    def __init__(self, trained: MixtureOfExperts) -> None:
        shared = trained.shared_experts
        shared_gate_up = torch.cat([shared.gate_proj.detach(), shared.up_proj.detach()], 1)
        self._config = trained.gate.config
        self._gate_up = torch.cat([trained.experts.gate_up_proj.detach(), shared_gate_up])
        self._down = torch.cat([trained.experts.down_proj.detach(), shared.down_proj.detach()])
        self._router = _copy(trained.gate.weight).float()
        self._correction = _copy(trained.gate.e_score_correction_bias).float()
        self._scale = self._config.scale * float(trained.gate.global_scale.detach())

    def matrices(self) -> Iterator[Tensor]:
        yield from (self._gate_up, self._down, self._router)

    def advance(self, x: Tensor) -> Tensor:
        ids, weights = route(
            x, self._router, self._correction, self._config.chosen, self._config.shared, self._scale
        )
        return moe(x, self._gate_up, self._down, ids, weights)


def _copy(weight: Tensor) -> Tensor:
    return weight.detach().clone(memory_format=torch.contiguous_format)


def _served_mlp(trained: nn.Module) -> _ServedDense | _ServedExperts:
    if isinstance(trained, GatedMlp):
        return _ServedDense(trained)
    assert isinstance(trained, MixtureOfExperts)
    return _ServedExperts(trained)
