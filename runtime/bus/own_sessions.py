"""Which sessions this runtime has, and which it has lost to another.

Pure bookkeeping. A session is lost at an epoch: word of an earlier loss, which may come late, does not count once the
session was reopened here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

MOST_REMEMBERED = 4096
"""Lost sessions of which it is remembered that they were told of."""


class OwnSessions:
    """The sessions of one runtime. `on_lost` is called once for each loss."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._epochs: dict[str, float] = {}
        self._lost: dict[str, None] = {}

    def epoch(self, session_id: str) -> float:
        """The epoch in which this runtime has a session; -1 where it is not known."""
        return self._epochs.get(session_id, -1)

    def expect(self, session_id: str) -> None:
        """A session is being reopened here: what is still said of its earlier loss does not count."""
        self._epochs[session_id] = math.inf

    def is_expected(self, session_id: str) -> bool:
        """Whether a session is just being reopened here."""
        return self.epoch(session_id) == math.inf

    def gain(self, session_id: str, epoch: float) -> None:
        """This runtime has a session, as the server says."""
        self._epochs[session_id] = epoch
        self._lost.pop(session_id, None)

    def lose(self, session_id: str, epoch: float) -> None:
        """Another runtime has a session since `epoch`."""
        if epoch <= self.epoch(session_id) or session_id in self._lost:
            return
        self._epochs.pop(session_id, None)
        self._lost[session_id] = None
        if len(self._lost) > MOST_REMEMBERED:
            del self._lost[next(iter(self._lost))]
        self._on_lost(session_id)

    def forget(self, session_id: str) -> None:
        """A session is over, or was not found."""
        self._epochs.pop(session_id, None)
