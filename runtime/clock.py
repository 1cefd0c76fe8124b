"""Where the runtime's time comes from: the wall, or a virtual clock that jumps.

The beat, and through it everything in a session, reads one of these and nothing else. Knows nothing of what the
time is used for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint


class Clock(Protocol):
    """Monotonic time since the clock was made."""

    def now(self) -> float:
        """Seconds since the clock was made."""

    async def sleep_until(self, time_s: float) -> None:
        """Wait until `now()` is at least `time_s`. Always a cancellation point."""

    @property
    def is_virtual(self) -> bool:
        """Whether time stands still while something is computed."""


class WallClock:
    """Real time. A sleep never ends early and is late by as much as the event loop is."""

    is_virtual = False

    def __init__(self) -> None:
        self._start = time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._start

    async def sleep_until(self, time_s: float) -> None:
        """Wait until `time_s`."""
        await anyio.sleep(max(0.0, time_s - self.now()))


class VirtualClock:
    """Time that moves only when someone sleeps, and then at once.

    A conversation takes as long as its computation. While `outside_is_busy()` is true (a background worker in
    another process, say, for whom time is real), sleeps take their real length, so that what is being waited for
    is not minutes late in the conversation's time.
    """

    is_virtual = True

    def __init__(self, outside_is_busy: Callable[[], bool] = lambda: False) -> None:
        self._now = 0.0
        self._outside_is_busy = outside_is_busy

    def now(self) -> float:
        """Seconds that were slept so far."""
        return self._now

    async def sleep_until(self, time_s: float) -> None:
        """Move to `time_s`; a time in the past is a plain checkpoint."""
        if time_s > self._now and self._outside_is_busy():
            await anyio.sleep(time_s - self._now)
        else:
            await checkpoint()
        self._now = max(self._now, time_s)
