"""Which keys a query sees, told split by split, so that whole splits need no mask."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from microturn.kernels.spec import CPU_SPLIT

SPLIT = CPU_SPLIT.keys

Kind = Literal["plain", "masked", "biased"]


class Sight(NamedTuple):
    """What limits the sight of every query."""

    window: int
    """Keys nearer than so many tokens are seen; 0 sees all."""
    sinks: int
    """So many keys at the beginning are seen always."""
    reach: int
    """Keys nearer than so many tokens have a bias."""

    def first_seen(self, position: int) -> int:
        """The first key, sinks aside, that a query at `position` sees."""
        return max(0, position - self.window + 1) if self.window else 0


class Zone(NamedTuple):
    """Splits that follow each other and are treated alike."""

    kind: Kind
    """plain: every row sees every key; masked: not so; biased: some keys have a bias, and some may not be seen."""
    start: int
    """The first split."""
    stop: int
    """The split after the last."""


class Seen(NamedTuple):
    """What the rows of a block see of a zone."""

    scores: Tensor
    """(M, margin + keys) float32: zero where a key is seen, minus infinity where not."""
    margin: int
    """Columns before the zone's first key."""
    unseen: Tensor | None
    """(n, 1, M) bool: rows that see nothing of a split; None if there are none."""


@lru_cache(maxsize=64)
def zones(sight: Sight, first: int, tokens: int) -> tuple[Zone, ...]:
    """The splits of which some query at `first .. first + tokens - 1` sees a key, ascending."""
    last = first + tokens - 1
    low, high = sight.first_seen(first) // SPLIT, last // SPLIT + 1
    sinks = min(CPU_SPLIT.count(sight.sinks), low) if sight.window else 0
    splits = [*range(sinks), *range(low, high)]
    # Splits that follow each other and are of one kind have the same difference from their rank among all.
    alike = groupby(enumerate(splits), lambda item: (_kind(sight, item[1], first, last), item[1] - item[0]))
    found = [(kind, [split for _, split in group]) for (kind, _), group in alike]
    return tuple(Zone(kind, members[0], members[-1] + 1) for kind, members in found)


def _kind(sight: Sight, split: int, first: int, last: int) -> Kind:
    begin, end = split * SPLIT, (split + 1) * SPLIT - 1
    if first - end < sight.reach:
        return "biased"
    in_window = not sight.window or last - begin < sight.window or end < sight.sinks
    return "plain" if end <= first and in_window else "masked"


@lru_cache(maxsize=16)
def seen_by_rows(sight: Sight, zone: Zone, first: int, tokens: int, repeats: int, rows: int) -> Seen:
    """What `rows` rows see, `repeats` to each of `tokens` tokens from position `first`; the rest as the last token.

    Every layer of a step asks the same, so the answer is kept; it must not be written to.
    """
    begin = zone.start * SPLIT
    margin = max(0, begin + sight.reach - 1 - first) if zone.kind == "biased" else 0
    keys = torch.arange(begin - margin, zone.stop * SPLIT, device="cpu")
    token = torch.div(torch.arange(rows, device="cpu"), repeats, rounding_mode="floor").clamp_(max=tokens - 1)
    distance = (first + token).unsqueeze(1) - keys
    seen = distance >= 0
    if sight.window:
        seen &= (distance < sight.window) | (keys < sight.sinks)
    scores = torch.zeros(seen.shape, dtype=torch.float32, device="cpu").masked_fill_(~seen, -torch.inf)
    unseen = ~seen[:, margin:].view(rows, -1, SPLIT).any(2).t().unsqueeze(1)
    return Seen(scores, margin, unseen.contiguous() if unseen.any() else None)
