"""Few rows times weights: sums of the weights' columns, each times one number of the row.

PyTorch's `embedding_bag` adds such a sum with one fused multiply-add per number, in the order of the numbers: the same
chain as oneDNN's (see `policy`), with the same bits. Our finding on x86-64 with AVX-512; the probe repeats it wherever
it runs, and goes without where it does not hold. One call costs 4 us beside its sums where oneDNN's costs 11, and
serves any number of rows with a weight of its own for each: a token's experts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

CHAIN_LENGTH = 512
"""Numbers that are added in one chain, the longest that oneDNN was seen to add so under AVX-512."""

LONGEST = 1024
"""Numbers of a column that one thread computes at least; our choice. No bit depends on it."""


class Columns(NamedTuple):
    """The columns of one weight `(N, K)`, or of all E in a stack `(E, N, K)`, laid out one after the other.

    Long columns are cut into panels of equal length, which threads can share: `(E, panels, K, N / panels)`.
    """

    table: Tensor
    """(E * panels * K, N / panels) float32, contiguous."""
    inner: int
    """K."""
    panels: int

    @classmethod
    def of(cls, weight: Tensor) -> Columns:
        """A copy of the columns of a weight `(N, K)` or `(E, N, K)`."""
        outer, inner = weight.shape[-2:]
        panels = _panels(outer)
        width = outer // panels
        by_panel = weight.detach().float().reshape(-1, width, inner).transpose(1, 2)
        return cls(by_panel.reshape(-1, width).contiguous(), inner, panels)

    def of_expert(self, expert: int) -> Columns:
        """Those of one weight of the stack, in the same memory."""
        rows = self.panels * self.inner
        return self._replace(table=self.table.narrow(0, expert * rows, rows))

    def times(self, rows: Tensor) -> Tensor:
        """`(M, K)` float32, M at least 1, by the one weight `(N, K)`, of one panel if M is above 1: `(M, N)`."""
        return self._sums(rows, *_places(self.inner, self.panels, rows.shape[0]))

    def times_rows(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Each of `rows (n, K)` float32 by its own weight, of `experts (n,)` int32: `(n, N)`."""
        order, begins = _chains(self.inner, self.panels, len(experts))
        return self._sums(rows, (experts.unsqueeze(1) * len(order) + order).view(-1), begins)

    def _sums(self, rows: Tensor, order: Tensor, begins: Tensor) -> Tensor:
        numbers = rows.detach()  # a forward pass only, as oneDNN's is
        if self.panels > 1:
            numbers = numbers.unsqueeze(1).expand(-1, self.panels, -1)
        numbers = numbers.contiguous().view(-1)
        sums = torch.embedding_bag(self.table, order, begins, False, 0, False, numbers, False, None)[0]
        if self.inner > CHAIN_LENGTH:
            sums = _added(sums.view(len(rows) * self.panels, -1, sums.shape[1]))
        return sums if self.panels == 1 else sums.view(len(rows), -1)


def _added(chains: Tensor) -> Tensor:
    """`(n, chains, width)` to `(n, width)`, from left to right."""
    first, *others = chains.unbind(1)
    total = first.clone()
    for chain in others:
        total.add_(chain)
    return total


@lru_cache(maxsize=256)
def _panels(outer: int) -> int:
    """The least number of equal panels of at most `LONGEST` columns and at least two; one if there is none."""
    least = -(-outer // LONGEST)
    return next((count for count in range(least, outer // 2) if outer % count == 0), 1)


@lru_cache(maxsize=256)
def _places(inner: int, panels: int, rows: int) -> tuple[Tensor, Tensor]:
    """The same for each of so many rows by one weight: places `(rows * panels * K,)`, and where chains begin."""
    order, begins = _chains(inner, panels, rows)
    return order.repeat(rows), begins


@lru_cache(maxsize=256)
def _chains(inner: int, panels: int, rows: int) -> tuple[Tensor, Tensor]:
    """The places of a weight's columns `(panels * K,)`, and where the chains of so many rows begin."""
    begins = [
        panel * inner + part for panel in range(rows * panels) for part in range(0, inner, CHAIN_LENGTH)
    ]
    return (
        torch.arange(panels * inner, dtype=torch.int32, device="cpu"),
        torch.tensor(begins, dtype=torch.int32, device="cpu"),
    )
