"""A mixture of experts."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import moe as cpu
from microturn.kernels.library import define

_moe = define(
    "moe(Tensor x, Tensor gate_up, Tensor down, Tensor ids, Tensor weights) -> Tensor",
    cpu=cpu.moe,
    gpu="moe:moe",
    fake=lambda x, gate_up, down, ids, weights: x.new_empty(x.shape),
)


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over each token's experts: `sum_k weights[t, k] * down[e] @ swiglu(gate_up[e] @ x[t])`.

    Slots are added in their order in float32, and the sum is rounded once. What lies between the two matrices is
    rounded to the dtype of `x`; on the CPU each matrix's result is rounded to it too. Shared experts are
    ids as any other. An expert may stand in several slots of a token.

    Args:
        x: `(T, C)`, float32 or bfloat16.
        gate_up: `(E, 2I, C)`, the dtype of `x`: the gate's rows, then the others.
        down: `(E, C, I)`, the dtype of `x`.
        ids: `(T, K)` int32, from 0 to E - 1, K at least 1. Other ids are refused on the CPU, and not seen on a GPU.
        weights: `(T, K)` float32.

    Returns:
        `(T, C)`, the dtype of `x`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit, or (on the CPU) an id is out of range.
    """
    _expect_experts(x, gate_up, down)
    if ids.dim() != 2 or ids.shape[0] != x.shape[0] or ids.shape[1] == 0 or ids.dtype != torch.int32:
        expected = f"({x.shape[0]}, K) of int32 with K at least 1"
        raise BadShapeError("moe", "ids", expected=expected, got=(ids.dtype, *ids.shape))
    if weights.shape != ids.shape or weights.dtype != torch.float32:
        expected = f"{tuple(ids.shape)} of float32, as ids"
        raise BadShapeError("moe", "weights", expected=expected, got=(weights.dtype, *weights.shape))
    result: Tensor = _moe(x, gate_up, down, ids, weights)
    return result


def _expect_experts(x: Tensor, gate_up: Tensor, down: Tensor) -> None:
    if x.dim() != 2:
        raise BadShapeError("moe", "x", expected="(T, C)", got=tuple(x.shape))
    width = x.shape[1]
    if gate_up.dim() != 3 or gate_up.shape[1] % 2 or gate_up.shape[2] != width or gate_up.dtype != x.dtype:
        expected = f"(E, 2I, {width}) of {x.dtype}"
        raise BadShapeError("moe", "gate_up", expected=expected, got=(gate_up.dtype, *gate_up.shape))
    experts, inner = gate_up.shape[0], gate_up.shape[1] // 2
    if down.shape != (experts, width, inner) or down.dtype != x.dtype:
        expected = f"({experts}, {width}, {inner}) of {x.dtype}"
        raise BadShapeError("moe", "down", expected=expected, got=(down.dtype, *down.shape))
