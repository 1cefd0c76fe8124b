"""Evidence that an operator is batch-invariant: one row alone, and the same row in many batches, compared bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Neighbours = Literal["zeros", "random", "large"]

BATCHES = (*range(1, 18), 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257)
"""Numbers of rows around which the tiles of known matrix kernels begin and end; our choice."""

NEIGHBOURS: tuple[Neighbours, ...] = ("zeros", "random", "large")
LARGE = 1e4


@dataclass(frozen=True)
class Evidence:
    """What was compared, and what differed."""

    checks: int
    """Comparisons of one row's bits."""
    mismatches: int
    """How many of them differed."""
    first: str | None = None
    """The first difference: rows in the batch, the row's place, its neighbours."""

    @property
    def is_invariant(self) -> bool:
        """True if something was compared and nothing differed."""
        return self.checks > 0 and self.mismatches == 0

    def __add__(self, other: Evidence) -> Evidence:
        """Both together; the first difference is the left one's, if it has one."""
        return Evidence(
            self.checks + other.checks, self.mismatches + other.mismatches, self.first or other.first
        )


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and bits; NaNs are compared by their bits too."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return torch.equal(
        left.reshape(-1).contiguous().view(torch.uint8), right.reshape(-1).contiguous().view(torch.uint8)
    )


def row_evidence(
    operator: Callable[[Tensor], Tensor | tuple[Tensor, ...]],
    row: Tensor,
    *,
    batches: Sequence[int] = BATCHES,
    neighbours: Sequence[Neighbours] = NEIGHBOURS,
    seed: int = 0,
) -> Evidence:
    """Compare a row computed alone with the same row in every batch.

    Args:
        operator: maps `(M, ...)` to one or several `(M, ...)`, row by row.
        row: one row of its input, `(...)`, of a floating dtype.
        batches: numbers of rows M to try; the row stands at places 0, 1, 3 and last.
        neighbours: what the other rows hold: zeros, standard normal numbers, or those times 10,000.
        seed: of the random neighbours.
    """
    generator = torch.Generator().manual_seed(seed)
    alone = _outputs(operator(row.unsqueeze(0)))
    checks, mismatches, first = 0, 0, None
    for count, place, kind in _arrangements(batches, neighbours):
        batch = _filled(kind, count, row, generator)
        batch[place] = row
        found = _outputs(operator(batch))
        checks += 1
        if all(same_bits(one[0], many[place]) for one, many in zip(alone, found, strict=True)):
            continue
        mismatches += 1
        first = first or f"{count} rows, row {place}, neighbours {kind}"
    return Evidence(checks, mismatches, first)


def _arrangements(
    batches: Sequence[int], neighbours: Sequence[Neighbours]
) -> Iterator[tuple[int, int, Neighbours]]:
    for count in batches:
        for place in sorted({0, 1, 3, count - 1}):
            if place < count:
                for kind in neighbours:
                    yield count, place, kind


def _filled(kind: Neighbours, count: int, row: Tensor, generator: torch.Generator) -> Tensor:
    shape = (count, *row.shape)
    if kind == "zeros":
        return torch.zeros(shape, dtype=row.dtype, device=row.device)
    drawn = torch.randn(shape, generator=generator)
    return (drawn * (LARGE if kind == "large" else 1.0)).to(device=row.device, dtype=row.dtype)


def _outputs(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result
