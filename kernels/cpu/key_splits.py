"""A session's keys and values, split by split: where they lie in the pool if possible, copied if not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.kernels.cpu.sight import Sight
from microturn.kernels.spec import CPU_SPLIT

SPLIT = CPU_SPLIT.keys

Run = tuple[Tensor, Tensor]
"""Keys and values of n splits, (n, G, SPLIT, D) each."""


@dataclass(frozen=True)
class SessionKeys:
    """The pages of one session in the pool `keys`, `values` `(P, G, page, D)`."""

    keys: Tensor
    values: Tensor
    table: list[int]
    """The page of every `page` tokens; anything where there is none."""
    length: int
    """Tokens in the cache."""

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, table: list[int], length: int) -> SessionKeys:
        """Those of one session, with no page after its last token's."""
        return cls(keys, values, table[: -(-length // keys.shape[2])], length)

    @property
    def page(self) -> int:
        """Tokens on a page."""
        return self.keys.shape[2]

    def page_at(self, index: int) -> int | None:
        """The page that holds tokens from `index * page` on, None where the table has ended."""
        return self.table[index] if index < len(self.table) else None

    def first_missing_page(self, sight: Sight, first: int) -> int | None:
        """The first place of the table without a page of the pool that queries from position `first` on see."""
        begin = sight.first_seen(first)
        sinks = min(sight.sinks, begin)
        for low, high in ((0, sinks), (begin, self.length)):
            indices = range(low // self.page, -(-high // self.page))
            part = self.table[indices.start : indices.stop]
            if len(part) == len(indices) and (not part or (min(part) >= 0 and max(part) < len(self.keys))):
                continue
            return next(n for n in indices if not self._is_page(self.page_at(n)))
        return None

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """The splits from `start` to before `stop`, in order, in as few runs as their places in memory allow.

        What the session does not hold is zero: another session's numbers could be infinite or none at all.
        """
        if self.page < SPLIT:
            yield self._gathered(self.keys, start, stop), self._gathered(self.values, start, stop)
            return
        whole = min(stop, self.length // SPLIT)
        yield from self._in_place(start, whole)
        if whole < stop:
            yield self._last_split(self.keys), self._last_split(self.values)

    def _is_page(self, page: int | None) -> bool:
        return page is not None and 0 <= page < len(self.keys)

    def _in_place(self, start: int, stop: int) -> Iterator[Run]:
        """Splits at equal steps through the pool are one view of it."""
        offsets = [self._offset(split) for split in range(start, stop)]
        begin = 0
        while begin < len(offsets):
            step = offsets[begin + 1] - offsets[begin] if begin + 1 < len(offsets) else 0
            end = begin + 1
            while step > 0 and end < len(offsets) and offsets[end] - offsets[end - 1] == step:
                end += 1
            yield (
                self._view(self.keys, offsets[begin], step, end - begin),
                self._view(self.values, offsets[begin], step, end - begin),
            )
            begin = end

    def _offset(self, split: int) -> int:
        """Where a split of the first group begins in the pool, in numbers."""
        index, place = divmod(split * SPLIT, self.page)
        _, groups, page, head_dim = self.keys.shape
        return (self.table[index] * groups * page + place) * head_dim

    def _view(self, pool: Tensor, offset: int, step: int, count: int, held: int = SPLIT) -> Tensor:
        """The first `held` keys of `count` splits of the pool: `(count, G, held, D)`."""
        _, groups, page, head_dim = pool.shape
        return pool.as_strided(
            (count, groups, held, head_dim),
            (max(step, 0), page * head_dim, head_dim, 1),
            pool.storage_offset() + offset,
        )

    def _last_split(self, pool: Tensor) -> Tensor:
        """A copy of the split that the session has begun and not filled, zeros after its last key: `(1, G, SPLIT, D)`."""
        split, held = divmod(self.length, SPLIT)
        part = self._view(pool, self._offset(split), 0, 1, held)
        return torch.constant_pad_nd(part, (0, 0, 0, SPLIT - held))

    def _gathered(self, pool: Tensor, start: int, stop: int) -> Tensor:
        """A copy of splits that lie on several pages each: `(n, G, SPLIT, D)`."""
        _, groups, page, head_dim = pool.shape
        pages = SPLIT // page
        table = self.table[start * pages : stop * pages]
        table += [0] * ((stop - start) * pages - len(table))
        index = torch.tensor(table, device="cpu").view(-1, 1, pages)
        evicted = index < 0
        index = index.clamp(min=0) * groups + torch.arange(groups, device="cpu").unsqueeze(1)
        copy = pool.view(-1, page, head_dim).index_select(0, index.flatten())
        if min(table) < 0:
            copy.masked_fill_(evicted.expand(-1, groups, -1).reshape(-1, 1, 1), 0)
        copy = copy.view(stop - start, groups, SPLIT, head_dim)
        copy[-1, :, max(0, self.length - (stop - 1) * SPLIT) :] = 0
        return copy
