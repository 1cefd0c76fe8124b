"""Tensor and sequence parallelism whose results do not depend on the number of processes.

A row-parallel linear adds partial sums of parts of K. Here K is always cut into `LOGICAL_SHARDS` parts, whatever the
number of processes: each process computes its parts, the parts travel as float32, and whoever needs the sum adds them
in the order of the parts. A column-parallel linear is computed in as many parts of N, so that every product has the
same shape on one process and on eight. How rows are cut into messages moves data only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from microturn.kernels._errors import BadShapeError, PeerLostError
from microturn.kernels.ops.linear import linear, linear_shards
from microturn.kernels.spec import LOGICAL_SHARDS

MESSAGE_ROWS = 4096
"""Token rows per message; our choice: some tens of megabytes of partial sums of a wide layer."""

Result = TypeVar("Result")


def row_counts(tokens: int, world: int) -> list[int]:
    """How many of `tokens` rows each process holds: as equal as can be, the first ones one more."""
    each, more = divmod(tokens, world)
    return [each + (rank < more) for rank in range(world)]


def shard(weight: Tensor, dim: int, *, rank: int, world: int) -> Tensor:
    """This process's part of a weight, (N, K): dim 0 for a column-parallel linear, dim 1 for a row-parallel one.

    Raises:
        BadShapeError: the dimension is not a multiple of `LOGICAL_SHARDS`, or that is none of `world`.
    """
    _require_divisor(world)
    if weight.shape[dim] % LOGICAL_SHARDS:
        raise BadShapeError(
            "shard", f"dimension {dim}", expected=f"a multiple of {LOGICAL_SHARDS}", got=weight.shape[dim]
        )
    return weight.chunk(world, dim)[rank].contiguous()


def _require_divisor(world: int) -> None:
    if LOGICAL_SHARDS % world:
        raise BadShapeError(
            "collectives", "the number of processes", expected=f"a divisor of {LOGICAL_SHARDS}", got=world
        )


class OrderedGroup:
    """The processes that compute one model together; all call the same methods in the same order.

    Token rows are (T, C). Where they are scattered, process r holds `row_counts(T, world)[r]` of them, in order.
    """

    def __init__(self, group: dist.ProcessGroup | None = None, *, message_rows: int = MESSAGE_ROWS) -> None:
        """Use an initialised process group.

        Args:
            group: of `torch.distributed`; the default group unless given. Its timeout bounds every wait.
            message_rows: token rows per message, at least 1. Results do not depend on it.

        Raises:
            BadShapeError: the number of processes does not divide `LOGICAL_SHARDS`.
        """
        self._group = group
        self._message_rows = message_rows
        self.rank = dist.get_rank(group)
        self.world = dist.get_world_size(group)
        _require_divisor(self.world)

    def column_parallel_linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute this process's columns: x (T, K) and its part of the weight, (N / world, K), give (T, N / world)."""
        parts = LOGICAL_SHARDS // self.world
        biases = [None] * parts if bias is None else list(bias.chunk(parts))
        pieces = zip(weight.chunk(parts), biases, strict=True)
        return torch.cat([linear(x, one.contiguous(), its_bias) for one, its_bias in pieces], dim=1)

    def row_parallel_linear(self, x: Tensor, weight: Tensor) -> Tensor:
        """Compute all rows on every process: x (T, K / world) and weight (N, K / world) give (T, N), dtype of x."""
        parts = linear_shards(x, weight, LOGICAL_SHARDS // self.world)
        pieces = [_in_order(self._gather(piece)).to(x.dtype) for piece in self._messages(parts, dim=1)]
        return torch.cat(pieces)

    def row_parallel_linear_scattered(self, x: Tensor, weight: Tensor) -> Tensor:
        """As `row_parallel_linear`, but each process gets only its own rows, (row_counts(T, world)[rank], N)."""
        parts = linear_shards(x, weight, LOGICAL_SHARDS // self.world)
        owned = parts.split(row_counts(len(x), self.world), dim=1)
        rounds = -(-max(piece.shape[1] for piece in owned) // self._message_rows)
        pieces = [self._exchange([self._message(piece, turn) for piece in owned]) for turn in range(rounds)]
        own = torch.cat(pieces, dim=1) if pieces else parts.new_zeros(LOGICAL_SHARDS, 0, len(weight))
        return _in_order(own).to(x.dtype)

    def gather_rows(self, x: Tensor, tokens: int) -> Tensor:
        """Bring scattered rows together: (row_counts(tokens, world)[rank], C) on each give (tokens, C) on all.

        Raises:
            BadShapeError: this process holds another number of rows.
        """
        counts = row_counts(tokens, self.world)
        if len(x) != counts[self.rank]:
            raise BadShapeError("gather_rows", "x", expected=f"{counts[self.rank]} rows", got=len(x))
        room = x.new_zeros(max(counts), *x.shape[1:])
        room[: len(x)] = x
        pieces = [self._gather(piece[None]) for piece in self._messages(room, dim=0)]
        filled = torch.cat(pieces, dim=1)
        return torch.cat([filled[rank, :count] for rank, count in enumerate(counts)])

    def scatter_rows(self, x: Tensor) -> Tensor:
        """This process's rows of (T, C) that all hold."""
        rows: Tensor = x.split(row_counts(len(x), self.world))[self.rank].contiguous()
        return rows

    def _messages(self, x: Tensor, dim: int) -> Iterator[Tensor]:
        """The tensor in pieces of at most `message_rows`; one piece if it is empty."""
        for piece in x.split(self._message_rows, dim):
            yield piece.contiguous()

    def _gather(self, parts: Tensor) -> Tensor:
        """(s, ...) of each process, in the order of processes: (s * world, ...)."""
        found = [torch.empty_like(parts) for _ in range(self.world)]
        self._guarded("gather rows", lambda: dist.all_gather(found, parts, group=self._group))
        return torch.cat(found)

    def _message(self, parts: Tensor, turn: int) -> Tensor:
        """The rows of parts (s, T, N) that travel in one turn; there may be none."""
        first = min(turn * self._message_rows, parts.shape[1])
        return parts[:, first : first + self._message_rows]

    def _exchange(self, by_owner: list[Tensor]) -> Tensor:
        """Send each process the parts (s, T_r, N) of its rows; receive those of one's own, (s * world, T_own, N)."""
        counts = [piece.shape[1] for piece in by_owner]
        own = counts[self.rank]
        sent = torch.cat(by_owner, dim=1).transpose(0, 1).contiguous()
        received = sent.new_empty(own * self.world, *sent.shape[1:])
        self._guarded(
            "exchange partial sums",
            lambda: dist.all_to_all_single(received, sent, [own] * self.world, counts, group=self._group),
        )
        by_sender = received.reshape(self.world, own, *sent.shape[1:])
        return by_sender.transpose(1, 2).flatten(0, 1)

    def _guarded(self, doing: str, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except RuntimeError as error:
            raise PeerLostError(doing, rank=self.rank, world=self.world, cause=str(error)) from error


def _in_order(parts: Tensor) -> Tensor:
    """Add (LOGICAL_SHARDS, ...) from the first to the last."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
