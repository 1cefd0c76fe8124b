"""Matrix products on the CPU whose rows do not depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from microturn.kernels.cpu.columns import Columns
from microturn.kernels.cpu.packed import pack, packed, packed_stack
from microturn.kernels.cpu.policy import Operand
from microturn.kernels.cpu.probe import policy_for

TYPES = (torch.float32, torch.bfloat16, torch.float16)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """See `microturn.kernels.ops.linear.linear`."""
    operand = _operand(weight)
    if x.dim() == 2:
        return operand.times(x, bias)
    return operand.times(x.reshape(-1, x.shape[-1]), bias).view(*x.shape[:-1], operand.outer)


def expert_operands(stack: Tensor) -> Callable[[int], Operand]:
    """What to multiply rows with, by the number of an expert of `stack (E, N, K)`."""
    found = packed_stack(stack, policy_for(stack.dtype, stack.shape[2], stack.shape[1]))
    return found.operands.__getitem__ if found else lambda expert: _operand(stack[expert])


def expert_columns(stack: Tensor) -> Columns | None:
    """The columns of a packed stack of experts, where single rows are computed with them."""
    found = packed_stack(stack, policy_for(stack.dtype, stack.shape[2], stack.shape[1]))
    return found.columns if found else None


def linear_shards(x: Tensor, weight: Tensor, shards: int) -> Tensor:
    """See `microturn.kernels.ops.linear.linear_shards`."""
    width = x.shape[1] // shards
    policy = policy_for(torch.float32, width, weight.shape[0])
    parts = zip(x.float().chunk(shards, dim=1), weight.chunk(shards, dim=1), strict=True)
    return torch.stack([policy.operand(part.float()).times(columns) for columns, part in parts])


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """See `microturn.kernels.ops.linear.matmul`."""
    return linear(a, b.t())


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """See `microturn.kernels.ops.linear.bmm`."""
    if a.shape[0] == 0:
        return a.new_empty(0, a.shape[1], b.shape[2])
    return torch.stack([matmul(left, right) for left, right in zip(a, b, strict=True)])


def certify_linears(shapes: Iterable[tuple[torch.dtype, int, int]]) -> None:
    """Find the policies of `(dtype, K, N)` now, so that no later call has to."""
    for dtype, inner, outer in shapes:
        policy_for(dtype, inner, outer)


def prepare_linears(weights: Iterable[Tensor], rows: Iterable[int] = (1, 4, 50)) -> int:
    """Probe, pack and try out weights, so that no later call of so many `rows` has to wait.

    Returns:
        How many matrices have been packed.
    """
    sizes = tuple(rows)
    count = 0
    for weight in weights:
        count += pack(weight)
        matrix = weight[0] if weight.dim() == 3 else weight
        operand = _operand(matrix)
        for size in sizes:
            operand.times(matrix.new_zeros(size, matrix.shape[1]).detach())
    return count


def _operand(weight: Tensor) -> Operand:
    outer, inner = weight.shape
    policy = policy_for(weight.dtype, inner, outer)
    return packed(weight, policy) or policy.operand(weight)
