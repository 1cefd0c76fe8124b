"""Which pages of a shared pool hold the keys and values of each session. Numbers only: the tensors are the caller's.

A pool is `(pages, G, page_size, D)` for the keys and the same for the values, allocated once. A session's token at
position `n` stands in its page `n // page_size`, at offset `n % page_size`. A page may belong to several sessions
that share a beginning; it is copied when one of them is about to write on it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError, LostTokensError, PoolFullError

EVICTED = -1
"""Stands in a page table where a session holds no page."""


@dataclass(frozen=True)
class Appended:
    """Where new tokens are to be written."""

    slots: tuple[int, ...]
    """One per token: page * page_size + offset."""
    copy: tuple[int, int] | None
    """Copy this page's keys and values (from, to) before writing; None if no page was shared."""


class PagePool:
    """The pages of one pool, and how many sessions hold each.

    Args:
        pages: how many there are.
        page_size: tokens on a page, a multiple of 16.

    Raises:
        ValueError: a size is not possible.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        if pages < 1:
            raise ValueError(f"pages must be at least 1, got {pages!r}")
        if page_size < 16 or page_size % 16:
            raise ValueError(f"page_size must be a multiple of 16, got {page_size!r}")
        self.page_size = page_size
        self._holders = [0] * pages
        # The lowest free page is given first, so that a session's pages mostly follow each other in memory.
        self._free = list(range(pages))

    @property
    def pages(self) -> int:
        """Pages in the pool."""
        return len(self._holders)

    @property
    def free_pages(self) -> int:
        """Pages that no session holds."""
        return len(self._free)

    def holders(self, page: int) -> int:
        """How many sessions hold `page`."""
        return self._holders[page]

    def take(self, count: int) -> list[int]:
        """Take `count` free pages, each with one holder.

        Raises:
            PoolFullError: fewer are free; none was taken.
        """
        if count > len(self._free):
            raise PoolFullError(wanted=count, free=len(self._free), pages=self.pages)
        taken = [heapq.heappop(self._free) for _ in range(count)]
        for page in taken:
            self._holders[page] = 1
        return taken

    def share(self, page: int) -> None:
        """Count one more holder of a held page."""
        self._holders[page] += 1

    def release(self, page: int) -> None:
        """Count one holder less; without any the page is free."""
        self._holders[page] -= 1
        if not self._holders[page]:
            heapq.heappush(self._free, page)


class CachedSession:
    """The pages of one session, in the order of its tokens.

    Args:
        pool: where its pages come from.
    """

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self._pages: list[int] = []
        self._length = 0
        self._evicted_until = 0

    @property
    def length(self) -> int:
        """Tokens appended and not rewound; evicted ones count."""
        return self._length

    @property
    def pages(self) -> tuple[int, ...]:
        """The page of every `page_size` tokens; `EVICTED` where there is none any more."""
        return tuple(self._pages)

    @property
    def evicted_until(self) -> int:
        """No token was evicted at this position or later."""
        return self._evicted_until

    def append(self, tokens: int) -> Appended:
        """Make room for `tokens` more.

        Raises:
            ValueError: `tokens` is negative.
            PoolFullError: there are too few free pages; the session is as it was.
        """
        if tokens < 0:
            raise ValueError(f"tokens must not be negative, got {tokens!r}")
        begin, end = self._length, self._length + tokens
        shared = self._shared_page_to_write(tokens)
        taken = self.pool.take(self._page_count(end) - len(self._pages) + (shared is not None))
        copy = None if shared is None else (shared, self._replace_last(taken.pop(0)))
        self._pages += taken
        self._length = end
        return Appended(tuple(self._slot(position) for position in range(begin, end)), copy)

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on.

        Raises:
            LostTokensError: the session is shorter, or the token before `length` was evicted.
        """
        if not self._evicted_until <= length <= self._length:
            raise LostTokensError(length=length, first=self._evicted_until, last=self._length)
        kept = self._page_count(length)
        for page in self._pages[kept:]:
            self.pool.release(page)
        del self._pages[kept:]
        self._length = length

    def fork(self) -> CachedSession:
        """A session with the same tokens on the same pages; whichever writes first on the last one copies it."""
        other = CachedSession(self.pool)
        other._pages = list(self._pages)
        other._length, other._evicted_until = self._length, self._evicted_until
        for page in self._pages:
            if page != EVICTED:
                self.pool.share(page)
        return other

    def evict(self, sinks: int, before: int) -> int:
        """Give back every page whose tokens all stand from position `sinks` on and before position `before`.

        Later queries must not see them: `before` is at most the position of the oldest query still to come, or to
        be computed again after a rewind, less the window, plus 1.

        Returns:
            How many pages this session gave back.

        Raises:
            ValueError: `sinks` is negative or `before` is larger than the length.
        """
        if sinks < 0 or before > self._length:
            raise ValueError(
                f"expected 0 <= sinks and before <= {self._length!r}, got {sinks!r} and {before!r}"
            )
        size = self.pool.page_size
        found = [n for n in range(-(-sinks // size), before // size) if self._pages[n] != EVICTED]
        for index in found:
            self.pool.release(self._pages[index])
            self._pages[index] = EVICTED
        if found:
            self._evicted_until = max(self._evicted_until, (found[-1] + 1) * size)
        return len(found)

    def free(self) -> None:
        """Give every page back; the session is empty then and may be used anew."""
        for page in self._pages:
            if page != EVICTED:
                self.pool.release(page)
        self._pages, self._length, self._evicted_until = [], 0, 0

    def _shared_page_to_write(self, tokens: int) -> int | None:
        """The last page, if new tokens begin on it and another session holds it too."""
        if not tokens or not self._length % self.pool.page_size:
            return None
        last = self._pages[-1]
        return last if self.pool.holders(last) > 1 else None

    def _replace_last(self, page: int) -> int:
        self.pool.release(self._pages[-1])
        self._pages[-1] = page
        return page

    def _page_count(self, length: int) -> int:
        return -(-length // self.pool.page_size)

    def _slot(self, position: int) -> int:
        index, offset = divmod(position, self.pool.page_size)
        return self._pages[index] * self.pool.page_size + offset


@dataclass(frozen=True)
class BatchTables:
    """What the attention operator must know of the sessions in one call."""

    page_table: Tensor
    """(S, max_pages) int32; `EVICTED` where a session has no page."""
    starts: Tensor
    """(S + 1,) int32: the tokens `starts[s]:starts[s + 1]` of the call are the newest of session s."""
    lengths: Tensor
    """(S,) int32: tokens of each session, the new ones included."""


def batch_tables(
    sessions: Sequence[CachedSession], tokens: Sequence[int], device: torch.device | str = "cpu"
) -> BatchTables:
    """The tables of a call that computes the newest `tokens[s]` of every session.

    Raises:
        BadShapeError: `tokens` does not fit `sessions`.
    """
    if len(sessions) != len(tokens) or any(
        not 0 <= new <= session.length for session, new in zip(sessions, tokens, strict=True)
    ):
        expected = f"one number per session, at most {[session.length for session in sessions]!r}"
        raise BadShapeError("batch_tables", "tokens", expected=expected, got=list(tokens))
    width = max((len(session.pages) for session in sessions), default=0)
    table = [[*session.pages, *[EVICTED] * (width - len(session.pages))] for session in sessions]
    starts = [0]
    for new in tokens:
        starts.append(starts[-1] + new)
    return BatchTables(
        torch.tensor(table, dtype=torch.int32, device=device).reshape(len(sessions), width),
        torch.tensor(starts, dtype=torch.int32, device=device),
        torch.tensor([session.length for session in sessions], dtype=torch.int32, device=device),
    )
