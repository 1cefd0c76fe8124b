"""Linears whose bits are the same on every processor. For the CPU only."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import int8 as cpu
from microturn.kernels.library import define

_TYPES = (torch.float32, torch.bfloat16, torch.float16)

_linear_int8 = define(
    "linear_int8(Tensor x, Tensor weight, Tensor scale, Tensor? bias=None) -> Tensor",
    cpu=cpu.linear_int8,
    gpu="int8:linear_int8",
    fake=lambda x, weight, scale, bias=None: x.new_empty((*x.shape[:-1], weight.shape[0])),
)


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a weight to seven bits, with one scale per output: done once, at load.

    Args:
        weight: `(N, K)`, float32, bfloat16 or float16, finite.

    Returns:
        `(N, K)` int8 from -64 to 63, and `(N,)` float32: the weight is about their product.

    Raises:
        BadShapeError: it is no matrix, is empty, or K is so large that a sum could overflow 32 bits.
    """
    if weight.dim() != 2 or weight.dtype not in _TYPES or not 1 <= weight.shape[1] <= cpu.LONGEST:
        expected = f"(N, K) of float32, bfloat16 or float16 with K from 1 to {cpu.LONGEST}"
        raise BadShapeError("quantize_weight", "weight", expected=expected, got=(weight.dtype, *weight.shape))
    return cpu.quantize_weight(weight)


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ (weight * scale).T + bias`, with each row of `x` rounded to 255 levels and the products added exactly.

    Integers add up to the same sum in any order, and each rounding is of one number alone, so the bits are the same on
    every processor. The largest magnitude of a row sets its levels. On normally distributed numbers the result
    is about 2% (root mean square) from the linear that is not rounded.

    Args:
        x: `(..., K)`, float32, bfloat16 or float16, finite.
        weight: `(N, K)` int8 from -64 to 63, of `quantize_weight`.
        scale: `(N,)` float32, of `quantize_weight`.
        bias: `(N,)`.

    Returns:
        `(..., N)`, the dtype of `x`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
        NoKernelError: the tensors are on a GPU.
    """
    if x.dim() == 0 or x.dtype not in _TYPES:
        expected = "(..., K) of float32, bfloat16 or float16"
        raise BadShapeError("linear_int8", "x", expected=expected, got=(x.dtype, *x.shape))
    width = x.shape[-1]
    if weight.dim() != 2 or weight.dtype != torch.int8 or weight.shape[1] != width or width > cpu.LONGEST:
        expected = f"(N, {width}) of int8 with K at most {cpu.LONGEST}"
        raise BadShapeError("linear_int8", "weight", expected=expected, got=(weight.dtype, *weight.shape))
    outputs = weight.shape[:1]
    if scale.shape != outputs or scale.dtype != torch.float32:
        expected = f"{tuple(outputs)} of float32"
        raise BadShapeError("linear_int8", "scale", expected=expected, got=(scale.dtype, *scale.shape))
    if bias is not None and bias.shape != outputs:
        raise BadShapeError("linear_int8", "bias", expected=f"{tuple(outputs)}", got=tuple(bias.shape))
    result: Tensor = _linear_int8(x, weight, scale, bias)
    return result
