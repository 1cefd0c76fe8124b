"""Short causal convolution per channel on the CPU: products and sums one after the other, several sessions at once.

Products and sums are separate operations, each rounded once, so that no bit depends on where a loop's vector part
ends. PyTorch's `conv1d` chooses among routines by the sizes, and promises no order of its sum.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.rounding import rounded


class Layout(NamedTuple):
    """Where every session's kept inputs and new tokens stand, one session after the other."""

    order: Tensor
    """Row of (states, tokens) that stands at each place."""
    tokens: Tensor
    """(T,): place of each token, less the W - 1 before it."""
    kept: Tensor
    """(S * (W - 1),): places of the inputs to keep for the next call."""


def short_conv(x: Tensor, weight: Tensor, state: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.short_conv.short_conv`."""
    return convolved("short_conv", x, weight, state, tuple(starts.tolist()))


def convolved(
    operator: str, x: Tensor, weight: Tensor, state: Tensor, bounds: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """`short_conv` with `starts` as numbers, on behalf of `operator`."""
    sessions, history, channels = state.shape
    tokens = x.shape[0]
    check_bounds(operator, bounds, tokens)
    # Forward only: autograd would follow the cached places, which may have been made in inference mode.
    rows = _detached(torch.cat((state.reshape(-1, channels), x)))
    weight = _detached(weight)
    if sessions == 1:
        return _convolved(rows, weight, tokens), rows[tokens:].clone().unsqueeze(0)
    layout = _layout(bounds, history)
    rows = rows.index_select(0, layout.order)
    y = _convolved(rows, weight, max(rows.shape[0] - history, 0)).index_select(0, layout.tokens)
    return y, rows.index_select(0, layout.kept).view(state.shape)


def _detached(tensor: Tensor) -> Tensor:
    """Without gradients; `Tensor.detach` costs a microsecond where there are none."""
    return tensor.detach() if tensor.requires_grad else tensor


def check_bounds(operator: str, bounds: tuple[int, ...], tokens: int) -> None:
    """Raise BadShapeError unless `bounds` rise from 0 to `tokens`."""
    if bounds == (0, tokens):
        return
    if bounds[0] != 0 or bounds[-1] != tokens or any(end < begin for begin, end in pairwise(bounds)):
        raise BadShapeError(operator, "starts", expected=f"rising from 0 to {tokens!r}", got=list(bounds))


def _convolved(rows: Tensor, weight: Tensor, count: int) -> Tensor:
    """The first `count` outputs over consecutive `rows`, in their dtype."""
    dtype = rows.dtype
    wide, taps = rounded(rows, torch.float32), rounded(weight, torch.float32).t().contiguous().unsqueeze(1)
    width, _, channels = taps.shape
    # Tap by tap, the rows that it is multiplied with; they overlap.
    shifted = wide.as_strided((width, count, channels), (channels, channels, 1))
    total, *others = (shifted * taps).unbind(0)
    for products in others:
        total.add_(products)
    total.add_(shifted[-1])
    if dtype is not torch.float32:
        return total.to(dtype)
    # The products of all taps lie in one piece, which need not be kept for those of one.
    return total.clone() if count > width else total


@lru_cache(maxsize=16)
def _layout(bounds: tuple[int, ...], history: int) -> Layout:
    """Every layer of a step has the same bounds, so the layout is made once for all of them."""
    states = (len(bounds) - 1) * history
    order: list[int] = []
    tokens: list[int] = []
    kept: list[int] = []
    for session, (begin, end) in enumerate(pairwise(bounds)):
        tokens += range(len(order), len(order) + end - begin)
        order += [*range(session * history, (session + 1) * history), *range(states + begin, states + end)]
        kept += range(len(order) - history, len(order))
    return Layout(
        *(torch.tensor(places, dtype=torch.int64, device="cpu") for places in (order, tokens, kept))
    )
