"""A mixture of experts on the CPU: each chosen expert runs once, on the rows that chose it.

The rows of a group depend on who else is in the batch, and their bits do not, because those of `linear` do not.
A pair is a token and one of its slots; pairs are numbered token by token.

Where few rows share an expert, every pair is computed apart, all of them in one call for each of the two matrices
(see `columns`). That reads an expert's weights once for every pair, and has the same bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu.activation import swiglu
from microturn.kernels.cpu.columns import Columns
from microturn.kernels.cpu.linear import expert_columns, expert_operands
from microturn.kernels.cpu.rounding import rounded

READ_FOR_A_CALL = 1 << 20
"""Bytes of weights that are read in the time that another expert's two calls cost beside their sums. Our choice, from
30 us and 40 GB/s on one core; no bit depends on it."""


def moe(x: Tensor, gate_up: Tensor, down: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """See `microturn.kernels.ops.moe.moe`."""
    tokens, slots = ids.shape
    chosen = ids.flatten().tolist()
    _expect_in_range(chosen, gate_up.shape[0])
    if tokens == 0:
        return torch.empty_like(x)
    columns = _worthwhile_columns(chosen, gate_up, down)
    if columns is not None:
        outer = _pair_by_pair(x, *columns, ids)
    elif tokens == 1:
        outer = _through_experts([x] * slots, chosen, gate_up, down).float()
    else:
        outer = _by_expert(x, gate_up, down, chosen)
    return rounded(_combined(outer, weights), x.dtype)


def _expect_in_range(chosen: Sequence[int], count: int) -> None:
    if chosen and not (min(chosen) >= 0 and max(chosen) < count):
        got = next(expert for expert in chosen if not 0 <= expert < count)
        raise BadShapeError("moe", "ids", expected=f"from 0 to {count - 1}", got=got)


def _worthwhile_columns(
    chosen: Sequence[int], gate_up: Tensor, down: Tensor
) -> tuple[Columns, Columns] | None:
    """The experts' columns if they are kept, and if computing every pair apart is quicker than expert by expert."""
    different = len(set(chosen))
    bytes_of_one = (gate_up.numel() + down.numel()) * gate_up.itemsize // gate_up.shape[0]
    if (len(chosen) - different) * bytes_of_one > different * READ_FOR_A_CALL:
        return None
    first, second = expert_columns(gate_up), expert_columns(down)
    return None if first is None or second is None else (first, second)


def _pair_by_pair(x: Tensor, gate_up: Columns, down: Columns, ids: Tensor) -> Tensor:
    """`(T, C)` -> `(pairs, C)`, float32."""
    experts = ids.reshape(-1)
    rows = x.unsqueeze(1).expand(-1, ids.shape[1], -1).reshape(len(experts), -1)
    return down.times_rows(swiglu(gate_up.times_rows(rows, experts)), experts)


def _by_expert(x: Tensor, gate_up: Tensor, down: Tensor, chosen: Sequence[int]) -> Tensor:
    """`(T, C)` -> `(pairs, C)`, float32."""
    order = torch.from_numpy(np.argsort(np.array(chosen), kind="stable"))
    pairs = Counter(chosen)
    experts = sorted(pairs)
    rows = x[order // (len(chosen) // len(x))].split([pairs[expert] for expert in experts])
    outer = _through_experts(rows, experts, gate_up, down).float()
    return torch.empty_like(outer).index_copy_(0, order, outer)


def _through_experts(rows: Sequence[Tensor], experts: Sequence[int], gate_up: Tensor, down: Tensor) -> Tensor:
    """Each `(n, C)` of `rows` by its expert, one after the other. The activation is computed for all at once."""
    first, second = expert_operands(gate_up), expert_operands(down)
    inner = swiglu(torch.cat([first(expert).times(some) for expert, some in zip(experts, rows, strict=True)]))
    inner_rows = inner.split([len(some) for some in rows])
    return torch.cat([second(expert).times(some) for expert, some in zip(experts, inner_rows, strict=True)])


def _combined(outer: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum over slots, in the order of slots: `(pairs, C)` float32, changed in place -> `(T, C)`."""
    terms = outer.mul_(weights.reshape(-1, 1)).view(*weights.shape, -1).unbind(1)
    total = terms[0].clone()
    for term in terms[1:]:
        total.add_(term)
    return total
