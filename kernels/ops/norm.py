"""Norms and means over the last dimension. Float32 inside; float32 and bfloat16 outside."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import norm as cpu
from microturn.kernels.library import define

_mean = define(
    "mean(Tensor x) -> Tensor",
    cpu=cpu.mean,
    gpu="norm:mean",
    fake=lambda x: x.new_empty(x.shape[:-1]),
)
_rms_norm = define(
    "rms_norm(Tensor x, Tensor weight, float eps) -> Tensor",
    cpu=cpu.rms_norm,
    gpu="norm:rms_norm",
    fake=lambda x, weight, eps: x.new_empty(x.shape),
)
_add_rms_norm = define(
    "add_rms_norm(Tensor x, Tensor residual, Tensor weight, float eps) -> (Tensor, Tensor)",
    cpu=cpu.add_rms_norm,
    gpu="norm:add_rms_norm",
    fake=lambda x, residual, weight, eps: (x.new_empty(x.shape), x.new_empty(x.shape)),
)
_adaptive_rms_norm = define(
    "adaptive_rms_norm(Tensor x, Tensor shift, Tensor scale, float eps) -> Tensor",
    cpu=cpu.adaptive_rms_norm,
    gpu="norm:adaptive_rms_norm",
    fake=lambda x, shift, scale, eps: x.new_empty(x.shape),
)


def mean(x: Tensor) -> Tensor:
    """The mean over the last dimension.

    Args:
        x: `(..., C)`, float32 or bfloat16, C at least 1.

    Returns:
        `(...)`, the dtype of `x`: summed and divided in float32, rounded once.

    Raises:
        BadShapeError: `x` has no dimension, or its last one is empty.
    """
    if x.dim() == 0 or x.shape[-1] == 0:
        raise BadShapeError("mean", "x", expected="(..., C) with C at least 1", got=tuple(x.shape))
    result: Tensor = _mean(x)
    return result


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm: `weight * round(x * rsqrt(mean(x ** 2) + eps))`, where round is to the dtype of `x`.

    The order of roundings is that of the Inkling models. Source of the norm: Zhang and Sennrich, 2019.

    Args:
        x: `(..., C)`, float32 or bfloat16.
        weight: `(C,)`.
        eps: added to the mean square.

    Returns:
        The shape and the dtype of `x`.

    Raises:
        BadShapeError: `weight` does not have the width of `x`.
    """
    if weight.shape != x.shape[-1:]:
        raise _wrong_weight("rms_norm", x, weight)
    result: Tensor = _rms_norm(x, weight, eps)
    return result


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Add a residual, then norm the sum.

    Args:
        x: `(..., C)`, float32 or bfloat16.
        residual: as `x`.
        weight: `(C,)`.
        eps: added to the mean square.

    Returns:
        The normed sum as of `rms_norm`, and the sum itself, rounded to the dtype before the norm; both as `x`.

    Raises:
        BadShapeError: `residual` or `weight` does not fit `x`.
    """
    if residual.shape != x.shape or residual.dtype != x.dtype:
        raise _unlike_x("add_rms_norm", "residual", x, residual)
    if weight.shape != x.shape[-1:]:
        raise _wrong_weight("add_rms_norm", x, weight)
    normed, total = _add_rms_norm(x, residual, weight, eps)
    return normed, total


def adaptive_rms_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Norm without weights, then scale and shift each token by its own numbers: the flow head's conditioning.

    `x * rsqrt(mean(x ** 2) + eps) * (1 + scale) + shift` in float32, rounded once. The source of the idea is adaLN
    (Peebles and Xie, 2022), with a root-mean-square norm for the layer norm.

    Args:
        x: `(T, C)`, float32 or bfloat16.
        shift: `(T, C)`, any floating dtype.
        scale: `(T, C)`, any floating dtype.
        eps: added to the mean square.

    Returns:
        `(T, C)`, the dtype of `x`.

    Raises:
        BadShapeError: `shift` or `scale` has another shape than `x`.
    """
    for name, tensor in (("shift", shift), ("scale", scale)):
        if tensor.shape != x.shape:
            raise _unlike_x("adaptive_rms_norm", name, x, tensor)
    result: Tensor = _adaptive_rms_norm(x, shift, scale, eps)
    return result


def _wrong_weight(operator: str, x: Tensor, weight: Tensor) -> BadShapeError:
    expected = f"{tuple(x.shape[-1:])}, the width of x"
    return BadShapeError(operator, "weight", expected=expected, got=tuple(weight.shape))


def _unlike_x(operator: str, parameter: str, x: Tensor, tensor: Tensor) -> BadShapeError:
    return BadShapeError(operator, parameter, expected=f"like x, {_form(x)}", got=_form(tensor))


def _form(tensor: Tensor) -> tuple[torch.dtype, ...]:
    return (tensor.dtype, *tensor.shape)
