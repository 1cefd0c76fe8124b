"""Remarks while the background is slow: short signs that a task is still being worked on.

Said when nothing was said of an open task for a while, at growing distances, and no two alike in a session: a wait
that is longer than the stock of remarks is passed in silence. Knows nothing of what is being worked on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from microturn.protocols import DelegationEvent, Speech
from microturn.runtime.weave_policy import Moment

FIRST_AFTER_MS = 8000
"""How long after a task was last spoken of the first remark comes. Our choice: the opening words and an answer of
common length lie within it."""
GROWTH = 2.0
"""By how much the distance to the next remark on the same task grows. Our choice."""
QUIET_MS = 1500
"""How long nobody must have spoken before a remark; that of a piece of mode `idle`."""
REMARK_LIFE_MS = 2000
"""How long a remark waits for its pause before it is given up. Our choice."""
REMARK_TASK = "remark"
"""Task id under which remarks are woven, and the key under which a result replaces one that waits."""
PHRASINGS = (
    "I'm still working on that.",
    "This is taking a little longer than I thought.",
    "Still at it. I haven't forgotten you.",
    "It's not done yet, but I'm on it.",
    "That one needs some more time.",
    "I'll tell you as soon as I have it.",
)


@dataclass(slots=True)
class _Wait:
    """How long nothing was said of one task."""

    since_ms: float
    gap_ms: float


class Remarks:
    """Decides for one session when a remark is due. Owned by the beat; deterministic."""

    def __init__(self, phrasings: Sequence[str] = PHRASINGS) -> None:
        """Take the remarks in the order in which they are to be used; without any there are none."""
        self._phrasings = phrasings
        self._used = 0
        self._waits: dict[str, _Wait] = {}

    def spoken_of(self, task_id: str, now_ms: float) -> None:
        """Note that something of a task is being said."""
        wait = self._waits.get(task_id)
        if wait is not None:
            wait.since_ms = now_ms

    def watch(self, tasks: Collection[str], now_ms: float) -> None:
        """Say in every micro-turn for which tasks the user waits. The wait for a new one begins now."""
        self._waits = {
            task_id: self._waits.get(task_id) or _Wait(now_ms, FIRST_AFTER_MS) for task_id in tasks
        }

    def due(self, moment: Moment) -> DelegationEvent | None:
        """Return a remark to be said now, where it is quiet and a task was not spoken of for long enough."""
        now_ms = moment.now_ms
        is_quiet = moment.is_open and moment.quiet_ms >= QUIET_MS
        if not is_quiet or self._used == len(self._phrasings):
            return None
        if not any(now_ms - wait.since_ms >= wait.gap_ms for wait in self._waits.values()):
            return None
        for wait in self._waits.values():  # one remark is for all that is waited for
            wait.since_ms, wait.gap_ms = now_ms, wait.gap_ms * GROWTH
        self._used += 1
        return _remark(self._used, self._phrasings[self._used - 1], now_ms)


def _remark(number: int, text: str, now_ms: float) -> DelegationEvent:
    speech = Speech(
        text=text,
        mode="idle",
        priority=-2,
        expires_ms=round(now_ms) + REMARK_LIFE_MS,
        supersede_key=REMARK_TASK,
    )
    return DelegationEvent(
        task_id=REMARK_TASK, attempt=0, seq=number, kind="progress", speech=speech, text=text
    )
