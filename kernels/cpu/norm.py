"""Norms and means over the last dimension, in float32, on the CPU.

Three habits of PyTorch are avoided (each measured with PyTorch 2.13 on an x86-64 processor):

- a sum over 32,768 or more numbers is divided among threads if it is the only row, and not if it is one of several;
- a sum over memory that is not contiguous takes another order;
- `rsqrt` of bfloat16 gives other bits at the end of a row than in its middle; that of float32 is correctly rounded
  everywhere.

Products and sums are separate operations throughout: a fused multiply-add may be used in the vector part of a loop
and not in its remainder.
"""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels.cpu.rounding import rounded

WIDEST_SUM = 16_384
"""Rows are summed in blocks of so many columns; half of what PyTorch divides among threads."""


def row_sum(x: Tensor) -> Tensor:
    """Sum `x (..., C)` float32 over the last dimension, in an order that only C decides: `(..., 1)` float32."""
    x = x.contiguous()
    if x.shape[-1] <= WIDEST_SUM:
        return x.sum(-1, keepdim=True)
    total = torch.zeros((*x.shape[:-1], 1), dtype=x.dtype)
    for first in range(0, x.shape[-1], WIDEST_SUM):
        total += x[..., first : first + WIDEST_SUM].contiguous().sum(-1, keepdim=True)
    return total


def mean(x: Tensor) -> Tensor:
    """See `microturn.kernels.ops.norm.mean`."""
    return rounded(row_sum(x.float()).div_(x.shape[-1]).squeeze(-1), x.dtype)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """See `microturn.kernels.ops.norm.rms_norm`."""
    normed = rounded(_rms_normalised(x, eps), x.dtype)
    return rounded(normed.mul(weight), x.dtype)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.norm.add_rms_norm`."""
    total = x + residual
    return rms_norm(total, weight, eps), total


def adaptive_rms_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """See `microturn.kernels.ops.norm.adaptive_rms_norm`."""
    scaled = _rms_normalised(x, eps).mul_(scale.float() + 1.0)
    return rounded(scaled.add_(shift.float()), x.dtype)


def _rms_normalised(x: Tensor, eps: float) -> Tensor:
    """`x` times the reciprocal root of its mean square, float32, in memory of its own."""
    wide = rounded(x, torch.float32)
    factor = row_sum(wide * wide).div_(x.shape[-1]).add_(eps).rsqrt_()
    return wide * factor
