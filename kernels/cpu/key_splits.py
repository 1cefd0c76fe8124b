"""Where a session's keys and values lie in the pool, split by split: in one piece if possible, copied if not.

All layers of one kind ask for the same splits of their own pools, so the places are found once for a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from microturn.kernels.cpu.sight import Sight, Zone

COPIED_KEYS = 512
"""Splits before a begun one are copied with it, into one piece, if all of them have so many keys at most. Our choice."""


class Run(Protocol):
    """Some splits of one session that follow each other."""

    @property
    def splits(self) -> int:
        """How many there are."""

    @property
    def keys(self) -> int:
        """Keys of each that are given: all of them, or those at its beginning."""

    def of(self, pool: Tensor) -> Tensor:
        """Those of `pool (P, G, page, D)`: `(splits, G, keys, D)`."""


class InPlace(NamedTuple):
    """Splits at equal steps through the pool: a view of it."""

    offset: int
    """Where the first group's first number lies."""
    step: int
    splits: int
    keys: int

    def of(self, pool: Tensor) -> Tensor:
        """See `Run`."""
        _, groups, page, head_dim = pool.shape
        size = (self.splits, groups, self.keys, head_dim)
        return pool.as_strided(
            size, (self.step, page * head_dim, head_dim, 1), pool.storage_offset() + self.offset
        )


class Begun(NamedTuple):
    """Splits of one page, the last of which is not full: a copy, zeros after the last key.

    Another session's numbers, which may be there, could be infinite or none at all.
    """

    offset: int
    splits: int
    keys: int
    held: int
    """Keys that there are in all."""

    def of(self, pool: Tensor) -> Tensor:
        """See `Run`."""
        _, groups, page, head_dim = pool.shape
        strides = (page * head_dim, head_dim, 1)
        held = pool.as_strided((groups, self.held, head_dim), strides, pool.storage_offset() + self.offset)
        each = self.keys * head_dim
        padded = torch.constant_pad_nd(held, (0, 0, 0, self.splits * self.keys - self.held))
        size = (self.splits, groups, self.keys, head_dim)
        return padded.as_strided(size, (each, self.splits * each, head_dim, 1))


class Gathered(NamedTuple):
    """Splits that lie on several pages each: a copy."""

    pages: Tensor
    """(splits * G * pages of a split,): rows of the pool seen as `(P * G, page, D)`."""
    evicted: Tensor | None
    """(splits * G * pages of a split, 1, 1) bool"""
    splits: int
    keys: int
    held: int
    """Keys of the last split."""

    def of(self, pool: Tensor) -> Tensor:
        """See `Run`."""
        _, groups, page, head_dim = pool.shape
        copy = pool.view(-1, page, head_dim).index_select(0, self.pages)
        if self.evicted is not None:
            copy.masked_fill_(self.evicted, 0)
        copy = copy.view(self.splits, groups, self.keys, head_dim)
        copy[-1, :, self.held :] = 0
        return copy


class SessionPages(NamedTuple):
    """The pages of one session in a pool `(P, G, page, D)`."""

    pool: torch.Size
    table: tuple[int, ...]
    """The page of every `page` tokens up to the last token's; anything where there is none."""
    length: int
    """Tokens in the cache."""

    @classmethod
    def of(cls, pool: torch.Size, table: Sequence[int], length: int) -> SessionPages:
        """Those of one session, with no page after its last token's."""
        return cls(pool, tuple(table[: -(-length // pool[2])]), length)

    def page_at(self, index: int) -> int | None:
        """The page that holds tokens from `index * page` on, None where the table has ended."""
        return self.table[index] if index < len(self.table) else None

    def first_missing_page(self, sight: Sight, first: int) -> int | None:
        """The first place of the table without a page of the pool that queries from position `first` on see."""
        begin, page = sight.first_seen(first), self.pool[2]
        sinks = min(sight.sinks, begin)
        for low, high in ((0, sinks), (begin, self.length)):
            for index in range(low // page, -(-high // page)):
                found = self.page_at(index)
                if found is None or not 0 <= found < self.pool[0]:
                    return index
        return None

    def runs(self, zone: Zone, split: int, begun: int) -> Iterator[Run]:
        """The splits of a zone, in order, in as few runs as their places in memory allow.

        Args:
            zone: which.
            split: keys of each.
            begun: keys that are given of the last one if it is not full.
        """
        start, stop = zone.start, zone.stop
        if self.pool[2] < split:
            yield self._gathered(start, stop, split)
            return
        whole = max(start, min(stop, self.length // split))
        first = self._first_copied(start, whole, split) if whole < stop else whole
        yield from self._in_place(start, first, split)
        if whole < stop:
            keys = split if first < whole else begun
            held = self.length - first * split
            yield Begun(self._offset(first, split), stop - first, keys, held)

    def _first_copied(self, start: int, begun: int, split: int) -> int:
        """The first split that is copied together with the begun one: on its page, and few keys in all."""
        on_page = begun - begun % (self.pool[2] // split)
        return max(start, on_page, begun + 1 - COPIED_KEYS // split)

    def _in_place(self, start: int, stop: int, split: int) -> Iterator[InPlace]:
        """Splits at equal steps through the pool are one view of it."""
        offsets = [self._offset(number, split) for number in range(start, stop)]
        begin = 0
        while begin < len(offsets):
            step = offsets[begin + 1] - offsets[begin] if begin + 1 < len(offsets) else 0
            end = begin + 1
            while step > 0 and end < len(offsets) and offsets[end] - offsets[end - 1] == step:
                end += 1
            yield InPlace(offsets[begin], max(step, 0), end - begin, split)
            begin = end

    def _offset(self, number: int, split: int) -> int:
        """Where a split of the first group begins in the pool, in numbers."""
        _, groups, page, head_dim = self.pool
        index, place = divmod(number * split, page)
        return (self.table[index] * groups * page + place) * head_dim

    def _gathered(self, start: int, stop: int, split: int) -> Gathered:
        _, groups, page, _ = self.pool
        pages = split // page
        table = list(self.table[start * pages : stop * pages])
        table += [0] * ((stop - start) * pages - len(table))
        index = torch.tensor(table, dtype=torch.int64, device="cpu").view(-1, 1, pages)
        rows = index.clamp(min=0) * groups + torch.arange(groups, device="cpu").unsqueeze(1)
        evicted = (index < 0).expand(-1, groups, -1).reshape(-1, 1, 1) if min(table) < 0 else None
        held = max(0, self.length - (stop - 1) * split)
        return Gathered(rows.flatten(), evicted, stop - start, split, held)
