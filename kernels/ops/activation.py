"""Activations. Float32 inside; float32 and bfloat16 outside."""

from __future__ import annotations

from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import activation as cpu
from microturn.kernels.library import define

_silu = define(
    "silu(Tensor x) -> Tensor",
    cpu=cpu.silu,
    gpu="activation:silu",
    fake=lambda x: x.new_empty(x.shape),
)
_swiglu = define(
    "swiglu(Tensor gate_up) -> Tensor",
    cpu=cpu.swiglu,
    gpu="activation:swiglu",
    fake=lambda gate_up: gate_up.new_empty((*gate_up.shape[:-1], gate_up.shape[-1] // 2)),
)


def silu(x: Tensor) -> Tensor:
    """`x / (1 + exp(-x))`, elementwise; a number's bits do not depend on where it lies.

    Args:
        x: any shape, float32 or bfloat16.

    Returns:
        The shape and the dtype of `x`.
    """
    result: Tensor = _silu(x)
    return result


def swiglu(gate_up: Tensor) -> Tensor:
    """`silu(first half) * second half` of the last dimension. Source: Shazeer, 2020.

    Args:
        gate_up: `(..., 2I)`, float32 or bfloat16.

    Returns:
        `(..., I)`, the dtype of `gate_up`, rounded once.

    Raises:
        BadShapeError: the last dimension is odd.
    """
    if gate_up.dim() == 0 or gate_up.shape[-1] % 2:
        raise BadShapeError(
            "swiglu", "gate_up", expected="(..., 2I), gate and up side by side", got=tuple(gate_up.shape)
        )
    result: Tensor = _swiglu(gate_up)
    return result
