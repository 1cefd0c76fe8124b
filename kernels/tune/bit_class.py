"""Which results share their bits: one row computed in many batches, told apart by a hash that stays on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Variant = TypeVar("Variant", bound=Hashable)

RowOperator = Callable[[Tensor], Tensor | tuple[Tensor, ...]]
"""Maps `(M, ...)` to one or several `(M, ...)`, row by row."""


@dataclass(frozen=True)
class BitClasses:
    """The hashes of one row over batches of several sizes."""

    rows: tuple[int, ...]
    """Batch sizes M that were tried."""
    first: tuple[int, ...]
    """The row's hash when it stands first, for each M."""
    last: tuple[int, ...]
    """The same row's hash when it stands last."""

    @property
    def count(self) -> int:
        """How many different bits were seen; 1 means invariant."""
        return len({*self.first, *self.last})

    def ranges(self) -> dict[str, str]:
        """The batch sizes of each class of a row that stands first, as `1-16,33`."""
        by_hash: dict[int, list[int]] = {}
        for size, found in zip(self.rows, self.first, strict=True):
            by_hash.setdefault(found, []).append(size)
        return {_hex(found): _ranges(sizes) for found, sizes in by_hash.items()}

    def as_row(self) -> dict[str, object]:
        """Fields for a record."""
        moved = sum(a != b for a, b in zip(self.first, self.last, strict=True))
        return {
            "classes": self.count,
            "moved_rows_that_differ": moved,
            "alone": _hex(self.first[0]),
            "ranges": self.ranges(),
        }


def bit_classes(operator: RowOperator, x: Tensor, rows: Sequence[int]) -> BitClasses:
    """Compute the first row of x in batches of each size, standing first and standing last.

    Args:
        operator: what is examined.
        x: `(at least max(rows), ...)`; the batch of size M is its first M rows.
        rows: batch sizes.

    Only one wait for the device happens, at the end.
    """
    first, last = [], []
    for size in rows:
        batch = x[:size]
        first.append(row_hash(operator(batch), 0))
        swapped = batch.clone()
        swapped[0], swapped[-1] = batch[-1], batch[0]
        last.append(row_hash(operator(swapped), size - 1))
    return BitClasses(tuple(rows), tuple(torch.stack(first).tolist()), tuple(torch.stack(last).tolist()))


def most_common(hashes: Mapping[Variant, int]) -> int:
    """The hash that most variants share; the first one's among equals.

    Raises:
        ValueError: if there are none.
    """
    if not hashes:
        raise ValueError("hashes is empty: no variant gave one")
    return Counter(hashes.values()).most_common(1)[0][0]


def row_hash(result: Tensor | tuple[Tensor, ...], row: int) -> Tensor:
    """A hash of one row's bits as a 0-dimensional int64 tensor on the device; no wait for the device.

    The bytes are weighted with random odd 64-bit numbers and added modulo 2^64, which does not depend on order.
    """
    outputs = (result,) if isinstance(result, Tensor) else result
    total = torch.zeros((), dtype=torch.int64, device=outputs[0].device)
    for number, output in enumerate(outputs):
        data = output[row].contiguous().reshape(-1).view(torch.uint8).to(torch.int64) + 1
        total = total + (data * _weights(data.numel(), number, data.device)).sum()
    return total


_made: dict[tuple[int, int, str], Tensor] = {}


def _weights(count: int, number: int, device: torch.device) -> Tensor:
    """Odd numbers, equal on every device and in every process."""
    key = (count, number, str(device))
    if key not in _made:
        generator = torch.Generator().manual_seed(1000 + number)
        drawn = torch.randint(-(2**62), 2**62, (count,), generator=generator, dtype=torch.int64)
        _made[key] = (drawn * 2 + 1).to(device)
    return _made[key]


def _hex(found: int) -> str:
    return f"{found & (2**64 - 1):016x}"


def _ranges(sizes: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for size in sizes:
        if parts and size == parts[-1][-1] + 1:
            parts[-1][1:] = [size]
        else:
            parts.append([size])
    return ",".join("-".join(str(end) for end in part) for part in parts)
