"""The beat: a tick at the end of every micro-turn, on an injected clock.

Tick `n` is due when micro-turn `n` has been heard, at `(n + 1) * 200` ms. A beat that has fallen behind gives one
tick for all micro-turns that have passed since: what was heard is made up, never dropped. Knows nothing of models
or sound.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from microturn.protocols import MICRO_TURN_MS
from microturn.runtime.clock import Clock

PERIOD_S = MICRO_TURN_MS / 1000
MAKE_UP_LIMIT = 5
"""Most micro-turns in one step: a second of sound. More than that is made up over several steps."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One step that is due."""

    index: int
    """Number of the newest micro-turn in it."""
    count: int
    """How many micro-turns it covers; the ones before the newest were missed and are made up here."""
    lateness_s: float
    """How long after the newest one was due the tick came."""

    @property
    def missed(self) -> int:
        """How many micro-turns got no step of their own."""
        return self.count - 1


class Beat:
    """Counts micro-turns on a clock, from the moment that `ticks` is first asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.start_s = 0.0
        """Clock time at which micro-turn 0 began."""

    def session_ms(self) -> float:
        """Session time now: milliseconds since micro-turn 0 began."""
        return (self.clock.now() - self.start_s) * 1000

    async def ticks(self) -> AsyncIterator[Tick]:
        """Yield a tick when it is due, for ever. The caller's work between two ticks may make the next one late."""
        self.start_s = self.clock.now()
        index = -1
        while True:
            await self.clock.sleep_until(self.start_s + (index + 2) * PERIOD_S)
            passed = int((self.clock.now() - self.start_s) / PERIOD_S + 1e-6)
            newest = min(max(passed - 1, index + 1), index + MAKE_UP_LIMIT)
            lateness_s = self.clock.now() - self.start_s - (newest + 1) * PERIOD_S
            yield Tick(index=newest, count=newest - index, lateness_s=max(0.0, lateness_s))
            index = newest
