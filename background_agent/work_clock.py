"""How long a run has worked: what it waits for its user is not its own time.

Without that, a user who thinks for a while before saying yes would leave the run no time for the tools it was allowed
to call. Knows nothing of what is waited for, and asks no clock but that of the event loop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class WorkClock:
    """The time of one run, in seconds since it was made. Stands still while anything waits for the user."""

    def __init__(self) -> None:
        self._began_s = anyio.current_time()
        self._waited_s = 0.0
        self._waits = 0
        self._waits_since_s = 0.0
        self._limit_s: float | None = None
        self._scope: anyio.CancelScope | None = None

    @property
    def elapsed_s(self) -> float:
        """Time since the run began, whatever it did."""
        return anyio.current_time() - self._began_s

    @property
    def waited_s(self) -> float:
        """How much of it the user was waited for."""
        waiting_s = anyio.current_time() - self._waits_since_s if self._waits else 0.0
        return self._waited_s + waiting_s

    @property
    def worked_s(self) -> float:
        """How much of it the run worked."""
        return self.elapsed_s - self.waited_s

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stand still until the end of the block. Blocks may overlap: two tools may ask at once."""
        if not self._waits:
            self._waits_since_s = anyio.current_time()
        self._waits += 1
        self._set_alarm()
        try:
            yield
        finally:
            if self._waits == 1:
                self._waited_s = self.waited_s
            self._waits -= 1
            self._set_alarm()

    @contextmanager
    def cut_off_after(self, limit_s: float | None) -> Iterator[anyio.CancelScope]:
        """Cancel the block once the run has worked for so long; None never does. One block at a time."""
        with anyio.CancelScope() as scope:
            self._limit_s, self._scope = limit_s, scope
            self._set_alarm()
            try:
                yield scope
            finally:
                self._scope = None

    def _set_alarm(self) -> None:
        """Tell the block when it is to end, if nothing more is waited for."""
        if self._scope is None or self._limit_s is None:
            return
        left_s = math.inf if self._waits else self._limit_s - self.worked_s
        self._scope.deadline = anyio.current_time() + left_s
