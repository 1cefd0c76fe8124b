"""A circuit breaker: after some failures in a row a tool is left alone for a while. Knows nothing of tools."""

from __future__ import annotations

from collections.abc import Callable

import anyio

FAILURES = 3
"""So many calls in a row that ran out of time or broke their process open the breaker. Our choice."""
PAUSE_S = 30.0
"""For so long no call is made; then one is let through, on which it depends. Our choice."""


class Breaker:
    """Closed at first. Belongs to one event loop.

    Source: M. Nygard, Release It!, chapter on stability patterns.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        pause_s: float = PAUSE_S,
        now: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._now = now
        self._in_a_row = 0
        self._open_until_s: float | None = None

    @property
    def wait_s(self) -> float:
        """Seconds until a call may be made; 0 while it is closed or one may try."""
        return 0.0 if self._open_until_s is None else max(0.0, self._open_until_s - self._now())

    def begin(self) -> bool:
        """Whether a call may be made now. Where it is the one that tries, the others wait for another pause."""
        if self.wait_s > 0:
            return False
        if self._open_until_s is not None:
            self._open_until_s = self._now() + self._pause_s
        return True

    def succeeded(self) -> None:
        """Note that a call came back, whatever it said."""
        self._in_a_row = 0
        self._open_until_s = None

    def failed(self) -> None:
        """Note that a call ran out of time or broke its process."""
        self._in_a_row += 1
        if self._in_a_row >= self._failures:
            self._open_until_s = self._now() + self._pause_s
