"""Which keys a query sees, told split by split, so that whole splits need no mask."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from microturn.kernels.spec import cpu_split

Kind = Literal["plain", "masked", "biased"]


class Sight(NamedTuple):
    """What limits the sight of every query."""

    window: int
    """Keys nearer than so many tokens are seen; 0 sees all."""
    sinks: int
    """So many keys at the beginning are seen always."""
    reach: int
    """Keys nearer than so many tokens have a bias."""
    split: int
    """Keys of a split."""

    @classmethod
    def of(cls, window: int, sinks: int, reach: int, dtype: torch.dtype = torch.float32) -> Sight:
        """That of a layer."""
        return cls(window, sinks, reach, cpu_split(window, is_wide=dtype == torch.float32).keys)

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


def zones(sight: Sight, first: int, tokens: int) -> tuple[Zone, ...]:
    """The splits of which some query at `first .. first + tokens - 1` sees a key, ascending."""
    last = first + tokens - 1
    low, high = sight.first_seen(first) // sight.split, last // sight.split + 1
    sinks = min(-(-sight.sinks // sight.split), low) if sight.window else 0
    splits = [*range(sinks), *range(low, high)]
    # Splits that follow each other and are of one kind have the same difference from their rank among all.
    alike = groupby(enumerate(splits), lambda item: (_kind(sight, item[1], first, last), item[1] - item[0]))
    found = [(kind, [split for _, split in group]) for (kind, _), group in alike]
    return tuple(Zone(kind, members[0], members[-1] + 1) for kind, members in found)


def _kind(sight: Sight, split: int, first: int, last: int) -> Kind:
    begin, end = split * sight.split, (split + 1) * sight.split - 1
    if first - end < sight.reach:
        return "biased"
    in_window = not sight.window or last - begin < sight.window or end < sight.sinks
    return "plain" if end <= first and in_window else "masked"


@lru_cache(maxsize=32)
def seen_by_rows(sight: Sight, zone: Zone, first: int, tokens: int, repeats: int, rows: int) -> Seen:
    """What `rows` rows see, `repeats` to each of `tokens` tokens from position `first`; the rest as the last token.

    Every layer of a step asks the same, so the answer is kept; it must not be written to.
    """
    begin = zone.start * sight.split
    margin = max(0, begin + sight.reach - 1 - first) if zone.kind == "biased" else 0
    own = first - begin + margin  # the column of the first token's own key
    size = (tokens, margin + (zone.stop - zone.start) * sight.split)
    scores = _forbidden(size).triu_(own + 1)
    if sight.window:
        past = _forbidden(size).tril_(own - sight.window)
        past[:, : max(0, margin + sight.sinks - begin)] = 0
        scores += past
    unseen = None
    if tokens > 1:  # a split that no token sees is in no zone
        by_split = scores[:, margin:].view(tokens, -1, sight.split).amax(2).t() == -torch.inf
        unseen = by_split[:, _tokens_of_rows(tokens, repeats, rows)].unsqueeze(1) if by_split.any() else None
    return Seen(scores[_tokens_of_rows(tokens, repeats, rows)], margin, unseen)


def _forbidden(size: tuple[int, int]) -> Tensor:
    return torch.full(size, -torch.inf, dtype=torch.float32, device="cpu")


@lru_cache(maxsize=256)
def _tokens_of_rows(tokens: int, repeats: int, rows: int) -> Tensor:
    """The number of each row's token."""
    return torch.tensor([min(row // repeats, tokens - 1) for row in range(rows)], device="cpu")
