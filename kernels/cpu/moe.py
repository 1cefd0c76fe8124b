"""A mixture of experts on the CPU: each chosen expert runs once, on the rows that chose it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.activation import swiglu
from microturn.kernels.cpu.linear import linear


class _Group(NamedTuple):
    """The pairs of token and slot that chose one expert, in the order of pairs sorted by expert."""

    expert: int
    begin: int
    end: int


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """See `microturn.kernels.ops.moe.moe`."""
    tokens, slots = ids.shape
    if tokens == 0:
        return torch.empty_like(x)
    order = np.argsort(ids.numpy().ravel(), kind="stable")
    groups = list(_groups(ids.numpy().ravel()[order], gate_up.shape[0]))
    rows = x.index_select(0, torch.from_numpy(order // slots))
    inner = swiglu(_per_expert(rows, gate_up, groups))
    outer = _per_expert(inner, down, groups)
    return _combined(outer, torch.from_numpy(order), weights).to(x.dtype)


def _groups(experts: np.ndarray, count: int) -> Iterator[_Group]:
    """Cut sorted expert ids into runs of equal ones."""
    if experts[0] < 0 or experts[-1] >= count:
        wrong = int(experts[0] if experts[0] < 0 else experts[-1])
        raise BadShapeError("moe", "ids", expected=f"from 0 to {count - 1}", got=wrong)
    ends = [*(np.flatnonzero(experts[1:] != experts[:-1]) + 1).tolist(), len(experts)]
    begin = 0
    for end in ends:
        yield _Group(int(experts[begin]), begin, end)
        begin = end


def _per_expert(rows: Tensor, stack: Tensor, groups: list[_Group]) -> Tensor:
    """Apply each expert's matrix of `stack (E, N, K)` to its rows: `(pairs, K)` -> `(pairs, N)`."""
    return torch.cat([linear(rows[begin:end], stack[expert]) for expert, begin, end in groups])


def _combined(outer: Tensor, order: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over slots, in the order of slots, in float32: `(pairs, C)` -> `(T, C)`."""
    weighting = weights.reshape(-1, 1)
    by_pair = torch.empty(outer.shape, dtype=torch.float32)
    by_pair.index_copy_(0, order, outer.float())
    by_slot = by_pair.mul_(weighting).view(*weights.shape, -1).unbind(1)
    total = by_slot[0].clone()
    for term in by_slot[1:]:
        total.add_(term)
    return total
