"""Linears in exact integer arithmetic: the same bits on every processor, with any threads and any batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST, MOST = -64, 63
"""Weights of seven bits. Processors without VNNI add pairs of products in 16 bits, which 2 * 255 * 64 still fits, and
so never saturate (measured: with eight bits they do)."""
LARGEST_ACTIVATION = 127
LONGEST = (2**31 - 1) // (LARGEST_ACTIVATION * -LEAST)
"""The largest K whose sum of products always fits in 32 bits."""
SMALLEST_SCALE = 1e-30
"""Keeps the scale of a row of zeros a normal number; our choice."""


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.int8.quantize_weight`."""
    wide = weight.detach().float()
    scale = (wide.abs().amax(1) / MOST).clamp_min(SMALLEST_SCALE)
    return (wide / scale[:, None]).round().clamp(LEAST, MOST).to(torch.int8), scale


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """See `microturn.kernels.ops.int8.linear_int8`."""
    rows = x.reshape(-1, weight.shape[1]).float()
    largest = torch.linalg.vector_norm(rows, math.inf, 1, keepdim=True)
    row_scale = largest.div_(LARGEST_ACTIVATION).clamp_min_(SMALLEST_SCALE)
    # A row's largest number divided by its scale may round to a little more than 127, which rounds back to 127.
    levels = (rows / row_scale).round_().to(torch.int8)
    # Each product by a scale is rounded by itself, so no processor can fuse them.
    result = torch._int_mm(levels, weight.t()).mul(row_scale).mul_(scale)
    if bias is not None:
        result += bias.float()
    return result.to(x.dtype).view(*x.shape[:-1], weight.shape[0])
