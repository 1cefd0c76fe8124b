"""Activations on the CPU.

PyTorch's `silu` and `sigmoid` of float32 compute the last elements of a loop with another exponential than the rest,
so that a number's bits depend on where in memory it lies. `exp` does not, at any width and offset tried, and the
other operations used here are correctly rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels.cpu.rounding import rounded


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)) of float32 numbers."""
    return x.neg().exp_().add_(1.0).reciprocal_()


def silu(x: Tensor) -> Tensor:
    """See `microturn.kernels.ops.activation.silu`."""
    return rounded(_silu(x.float()), x.dtype)


def swiglu(gate_up: Tensor) -> Tensor:
    """See `microturn.kernels.ops.activation.swiglu`."""
    gate, up = gate_up.chunk(2, -1)
    return rounded(_silu(rounded(gate, torch.float32)).mul_(rounded(up, torch.float32)), gate_up.dtype)


def _silu(x: Tensor) -> Tensor:
    denominator = x.neg().exp_().add_(1.0)
    return torch.div(x, denominator, out=denominator)
