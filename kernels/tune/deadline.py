"""A budget of time that is shared by the steps of a long measurement."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """When the work must be over; steps ask it before they start.

    Args:
        seconds: the whole budget.
        clock: gives monotonic seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether the budget is spent."""
        return self.left_s == 0.0

    def share(self, seconds: float) -> Deadline:
        """A deadline of its own for one step: `seconds` from now, but not later than this one."""
        return Deadline(min(seconds, self.left_s), clock=self._clock)
