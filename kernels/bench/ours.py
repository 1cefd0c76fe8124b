"""The layer's parts from this package's operators."""

from __future__ import annotations

from torch import Tensor

from microturn.kernels.bench.layer import EPS, ROUTE_SCALE, LayerState, LayerWeights, Operators
from microturn.kernels.ops.attention import attention
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.norm import add_rms_norm, rms_norm
from microturn.kernels.ops.router import route
from microturn.kernels.ops.short_conv import short_conv


def _attend(
    q: Tensor, k: Tensor, v: Tensor, relative: Tensor | None, weights: LayerWeights, state: LayerState
) -> Tensor:
    append_kv(
        k,
        v,
        k_conv=weights.k_conv,
        v_conv=weights.v_conv,
        k_state=state.kv_state,
        v_state=state.kv_state,
        k_norm=weights.head_norm,
        eps=EPS,
        keys=state.keys,
        values=state.values,
        slots=state.slots,
        starts=state.starts,
    )
    bias = (
        linear(relative, weights.distances)
        if relative is not None and weights.distances is not None
        else None
    )
    return attend(q, state, bias).flatten(1)


def attend(q: Tensor, state: LayerState, distance_bias: Tensor | None = None) -> Tensor:
    """Attention of `(T, H, D)` over what the sessions hold, with a scale of 1/D as for normed heads."""
    return attention(
        q,
        state.keys,
        state.values,
        state.page_table,
        state.starts,
        state.lengths,
        scale=1.0 / q.shape[-1],
        window=state.window,
        distance_bias=distance_bias,
    )


def _route(x: Tensor, weights: LayerWeights) -> tuple[Tensor, Tensor]:
    shape = weights.shape
    return route(x, weights.router, weights.correction, shape.top_k, shape.shared, ROUTE_SCALE)


OURS = Operators(
    norm=lambda x, weight: rms_norm(x, weight, EPS),
    add_norm=lambda x, residual, weight: add_rms_norm(x, residual, weight, EPS),
    linear=linear,
    attend=_attend,
    conv=lambda x, weight, state: short_conv(x, weight, state.state, state.starts)[0],
    route=_route,
    experts=lambda x, ids, shares, weights: moe(x, weights.gate_up, weights.down, ids, shares),
)
