"""All that is measured of one session, as one observer."""

from __future__ import annotations

from contextlib import AbstractContextManager

from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.telemetry.delegation_metrics import DelegationMetrics
from microturn.runtime.telemetry.flight_recorder import FlightRecorder
from microturn.runtime.telemetry.running_trace import RunningTrace
from microturn.runtime.telemetry.tick_metrics import TickMetrics
from microturn.runtime.telemetry.watchdog import LoopWatchdog


class SessionTelemetry:
    """An observer of one session. Its spans for pieces of results are the session's own and need no observer."""

    def __init__(
        self, session_id: str, *, ticks: TickMetrics | None = None, watchdog: LoopWatchdog | None = None
    ) -> None:
        """Measure a session.

        Args:
            session_id: the session.
            ticks: what measures the ticks of its host, for all sessions there; one of its own unless given.
            watchdog: what watches the host's event loop.
        """
        running = RunningTrace()
        self._ticks = ticks or TickMetrics()
        self._flight = FlightRecorder(session_id, running, watchdog)
        # The trace comes last, so that the event which ends a delegation is still measured within it.
        self._observers = (DelegationMetrics(running), self._flight, self._ticks, running)

    def __call__(self, event: SessionEvent) -> None:
        """Measure what has happened. Ticks are by far the most, and nobody else wants them."""
        if isinstance(event, TickDone):
            self._ticks(event)
            self._flight(event)
            return
        for observer in self._observers:
            observer(event)

    def watching(self) -> AbstractContextManager[None]:
        """Record the flight if the block, in which the session lives, ends in an error."""
        return self._flight.watching()
