"""A mixture of experts on the CPU: each chosen expert runs once, on the rows that chose it.

The rows of a group depend on who else is in the batch, and their bits do not, because those of `linear` do not.
A pair is a token and one of its slots; pairs are numbered token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.activation import swiglu
from microturn.kernels.cpu.linear import linear


class _Group(NamedTuple):
    """The pairs `begin:end`, in the order of experts, that chose one expert."""

    expert: int
    begin: int
    end: int


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """See `microturn.kernels.ops.moe.moe`."""
    tokens, slots = ids.shape
    experts = ids.numpy().ravel()
    _expect_in_range(experts, gate_up.shape[0])
    if tokens == 0:
        return torch.empty_like(x)
    if tokens == 1:
        groups = [_Group(expert, pair, pair + 1) for pair, expert in enumerate(experts.tolist())]
        outer = _through_experts(x.expand(slots, -1), gate_up, down, groups).float()
    else:
        order = np.argsort(experts, kind="stable")
        places = torch.from_numpy(order)
        sorted_outer = _through_experts(x[places // slots], gate_up, down, _groups(experts[order]))
        outer = torch.empty(sorted_outer.shape, dtype=torch.float32)
        outer.index_copy_(0, places, sorted_outer.float())
    return _combined(outer, weights).to(x.dtype)


def _expect_in_range(experts: NDArray[np.int32], count: int) -> None:
    is_wrong = (experts < 0) | (experts >= count)
    if is_wrong.any():
        got = int(experts[is_wrong][0])
        raise BadShapeError("moe", "ids", expected=f"from 0 to {count - 1}", got=got)


def _groups(experts: NDArray[np.int32]) -> list[_Group]:
    """Cut sorted ids into runs of equal ones."""
    cuts = (np.flatnonzero(experts[1:] != experts[:-1]) + 1).tolist()
    begins = [0, *cuts]
    ends = [*cuts, len(experts)]
    chosen = experts[begins].tolist()
    return [_Group(*group) for group in zip(chosen, begins, ends, strict=True)]


def _through_experts(rows: Tensor, gate_up: Tensor, down: Tensor, groups: Sequence[_Group]) -> Tensor:
    """`(pairs, C)` -> `(pairs, C)`: each row by its group's expert. The activation is computed for all at once."""
    inner = swiglu(torch.cat([linear(rows[begin:end], gate_up[expert]) for expert, begin, end in groups]))
    return torch.cat([linear(inner[begin:end], down[expert]) for expert, begin, end in groups])


def _combined(outer: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over slots, in the order of slots: `(pairs, C)` float32, changed in place -> `(T, C)`."""
    terms = outer.mul_(weights.reshape(-1, 1)).view(*weights.shape, -1).unbind(1)
    total = terms[0].clone()
    for term in terms[1:]:
        total.add_(term)
    return total
