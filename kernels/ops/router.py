"""The router of a mixture of experts."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import router as cpu
from microturn.kernels.library import define


def _route_fake(
    x: Tensor, weight: Tensor, correction: Tensor, top_k: int, shared: int, scale: float
) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], top_k + shared)
    return x.new_empty(shape, dtype=torch.int32), x.new_empty(shape, dtype=torch.float32)


_route = define(
    "route(Tensor x, Tensor weight, Tensor correction, int top_k, int shared, float scale) -> (Tensor, Tensor)",
    cpu=cpu.route,
    gpu="router:route",
    fake=_route_fake,
)


def route(
    x: Tensor, weight: Tensor, correction: Tensor, top_k: int, shared: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Choose experts for each token, and weigh them against the experts that all tokens share.

    In float32 throughout: experts are chosen by `sigmoid(logit) + correction` in descending order, the lowest index
    first among equals; the shared experts, numbered E to E + shared - 1, follow; the weights are
    `scale * softmax(logsigmoid(logits))` over those chosen and shared. This is the router of the Inkling models
    (its choice without an auxiliary loss is that of DeepSeek-V3, 2024).

    Args:
        x: `(T, C)`, float32 or bfloat16.
        weight: `(E + shared, C)`; hand it in as float32, else it is converted at every call.
        correction: `(E,)`, moves the choice and not the weights.
        top_k: how many of the E experts are chosen, from 1 to E.
        shared: number of shared experts, from 0.
        scale: factor of all weights.

    Returns:
        `ids (T, top_k + shared)` int32, and `weights` of the same shape, float32.

    Raises:
        BadShapeError: the shapes do not fit, or `top_k` is not from 1 to E.
    """
    experts = correction.shape[0] if correction.dim() == 1 else -1
    if x.dim() != 2:
        raise BadShapeError("route", "x", expected="(T, C)", got=tuple(x.shape))
    if experts < 0:
        raise BadShapeError("route", "correction", expected="(E,)", got=tuple(correction.shape))
    if weight.shape != (experts + shared, x.shape[1]) or shared < 0:
        expected = f"({experts} + {shared}, {x.shape[1]}): experts of the correction, shared experts"
        raise BadShapeError("route", "weight", expected=expected, got=tuple(weight.shape))
    if not 1 <= top_k <= experts:
        raise BadShapeError("route", "top_k", expected=f"from 1 to {experts}", got=top_k)
    ids, weights = _route(x, weight, correction, top_k, shared, scale)
    return ids, weights
