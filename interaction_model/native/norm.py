"""Root-mean-square norm with Inkling's order of roundings, and the dtype in which sums are taken."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def widened(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class RmsNorm(nn.Module):
    """`weight * round(x * rsqrt(mean(x ** 2) + eps))`, where round is to the dtype of `x`.

    The mathematics of `microturn.kernels.ops.norm.rms_norm`, with gradients.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(..., width)` -> the same shape."""
        wide = widened(x)
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)
