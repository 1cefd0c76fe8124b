"""The exact int8 linears have no kernel for a GPU; this says so where one is asked for."""

from __future__ import annotations

from torch import Tensor

from microturn.kernels._errors import NoKernelError


def linear_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Always raises `NoKernelError`."""
    raise NoKernelError("linear_int8", device=f"{x.device.type} with Triton")
