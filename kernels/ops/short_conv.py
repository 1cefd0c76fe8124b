"""Short causal convolution over the last few tokens, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import short_conv as cpu
from microturn.kernels.library import define

_short_conv = define(
    "short_conv(Tensor x, Tensor weight, Tensor state, Tensor starts) -> (Tensor, Tensor)",
    cpu=cpu.short_conv,
    gpu="short_conv:short_conv",
    fake=lambda x, weight, state, starts: (x.new_empty(x.shape), state.new_empty(state.shape)),
)


def short_conv(x: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Add to every token a weighted sum of itself and the W - 1 tokens before it in its session.

    `y[t] = x[t] + sum over j of weight[:, j] * x[t - W + 1 + j]`, in float32, j ascending, the residual last, with
    one rounding. The short convolution of the Inkling models, without a bias.

    Args:
        x: `(T, C)`, float32, bfloat16 or float16.
        weight: `(C, W)`, any floating dtype; its last column belongs to the token itself.
        state: `(S, W - 1, C)`, the dtype of `x`: the inputs before this call, oldest first; zeros at the start.
        starts: `(S + 1,)` int32, rising from 0 to T: the tokens `starts[s]:starts[s + 1]` belong to session s.

    Returns:
        `y (T, C)` of the dtype of `x`, and the state of the next call.

    Raises:
        BadShapeError: shapes or dtypes do not fit; on the CPU also if `starts` do not rise from 0 to T.
    """
    check_short_conv("short_conv", x, weight, state, starts)
    y, new_state = _short_conv(x, weight, state, starts)
    return y, new_state


def prepare_taps(weight: Tensor) -> Tensor:
    """A copy of the weight `(C, W)` of a short convolution that its device can read as it lies; the bits stay the same.

    On the CPU it is float32 and lies tap by tap, elsewhere it is contiguous.
    """
    if weight.device.type != "cpu":
        return weight.detach().clone(memory_format=torch.contiguous_format)
    return weight.detach().float().t().clone(memory_format=torch.contiguous_format).t()


def check_short_conv(operator: str, x: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> None:
    """Raise BadShapeError, named after `operator`, unless the arguments of a short convolution fit each other."""
    if x.dim() != 2 or weight.dim() != 2 or weight.shape[0] != x.shape[1]:
        got = (tuple(x.shape), tuple(weight.shape))
        raise BadShapeError(operator, "x and its weight", expected="(T, C) and (C, W)", got=got)
    if starts.dim() != 1 or starts.dtype != torch.int32:
        got_starts = (tuple(starts.shape), starts.dtype)
        raise BadShapeError(operator, "starts", expected="(S + 1,) of int32", got=got_starts)
    if state.shape != (len(starts) - 1, weight.shape[1] - 1, x.shape[1]) or state.dtype != x.dtype:
        expected = f"({len(starts) - 1}, {weight.shape[1] - 1}, {x.shape[1]}) of {x.dtype}"
        raise BadShapeError(operator, "state", expected=expected, got=(tuple(state.shape), state.dtype))
