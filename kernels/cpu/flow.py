"""Euler steps of flow matching, in float32 with one rounding at the end, on the CPU.

Each product and each sum is an operation of its own, so that no fused multiply-add depends on where a number lies.
"""

from __future__ import annotations

from torch import Tensor


def flow_step(x: Tensor, velocity: Tensor, dt: float) -> Tensor:
    """See `microturn.kernels.ops.flow.flow_step`."""
    return velocity.float().mul(dt).add_(x.float()).to(x.dtype)


def guided_flow_step(
    x: Tensor, conditional: Tensor, unconditional: Tensor, dt: float, guidance: float
) -> Tensor:
    """See `microturn.kernels.ops.flow.guided_flow_step`."""
    base = unconditional.float()
    velocity = conditional.float().sub(base).mul_(guidance).add_(base)
    return velocity.mul_(dt).add_(x.float()).to(x.dtype)
