"""Euler steps of flow matching (Lipman et al., 2022). Float32 inside; float32 and bfloat16 outside."""

from __future__ import annotations

from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import flow as cpu
from microturn.kernels.library import define

_flow_step = define(
    "flow_step(Tensor x, Tensor velocity, float dt) -> Tensor",
    cpu=cpu.flow_step,
    gpu="flow:flow_step",
    fake=lambda x, velocity, dt: x.new_empty(x.shape),
)
_guided_flow_step = define(
    "guided_flow_step(Tensor x, Tensor conditional, Tensor unconditional, float dt, float guidance) -> Tensor",
    cpu=cpu.guided_flow_step,
    gpu="flow:guided_flow_step",
    fake=lambda x, conditional, unconditional, dt, guidance: x.new_empty(x.shape),
)


def flow_step(x: Tensor, velocity: Tensor, dt: float) -> Tensor:
    """`x + dt * velocity`, rounded once.

    Args:
        x: any shape, float32 or bfloat16.
        velocity: the shape of `x`, any floating dtype.
        dt: length of the step; the whole way from noise to data is 1.

    Returns:
        The shape and the dtype of `x`.

    Raises:
        BadShapeError: `velocity` has another shape than `x`.
    """
    _expect_like("flow_step", x, velocity=velocity)
    result: Tensor = _flow_step(x, velocity, dt)
    return result


def guided_flow_step(
    x: Tensor, conditional: Tensor, unconditional: Tensor, dt: float, guidance: float
) -> Tensor:
    """`x + dt * (unconditional + guidance * (conditional - unconditional))`, rounded once.

    Source of the guidance: Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.

    Args:
        x: any shape, float32 or bfloat16.
        conditional: the velocity with its condition, the shape of `x`.
        unconditional: the velocity without it, the shape of `x`.
        dt: length of the step; the whole way from noise to data is 1.
        guidance: 0 takes the unconditional velocity, 1 the conditional one, more goes beyond it.

    Returns:
        The shape and the dtype of `x`.

    Raises:
        BadShapeError: a velocity has another shape than `x`.
    """
    _expect_like("guided_flow_step", x, conditional=conditional, unconditional=unconditional)
    result: Tensor = _guided_flow_step(x, conditional, unconditional, dt, guidance)
    return result


def _expect_like(operator: str, x: Tensor, **velocities: Tensor) -> None:
    for name, velocity in velocities.items():
        if velocity.shape != x.shape:
            expected = f"{tuple(x.shape)}, the shape of x"
            raise BadShapeError(operator, name, expected=expected, got=tuple(velocity.shape))
