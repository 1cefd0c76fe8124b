"""The last half minute of each session's ticks, written as one span when a tick was missed or the session crashed."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Status, StatusCode

from microturn.protocols import MICRO_TURN_MS
from microturn.protocols import telemetry_names as names
from microturn.runtime.events import BargedIn, Delegated, DelegationMoved, SessionEvent, TickDone
from microturn.runtime.telemetry.running_trace import RunningTrace
from microturn.runtime.telemetry.watchdog import Blockage, LoopWatchdog

TICKS: Final = 150
"""How many ticks are kept: 30 s. Our choice."""
PAUSE_S: Final = 30.0
"""Between two records of one session that missed ticks, so that a slow machine does not write them all day."""
COLUMNS: Final = (
    "index",
    "count",
    "step_ms",
    "runtime_ms",
    "lateness_ms",
    "floor",
    "heard_peak",
    "happened",
)
"""What stands in each row. `happened` has the kinds of the events since the tick before."""

FlightReason: TypeAlias = Literal["missed", "crashed"]
Row: TypeAlias = tuple[int, int, float, float, float, str, float, tuple[str, ...]]

TRACER = trace.get_tracer("microturn.runtime")


class FlightRecorder:
    """An observer that keeps the last ticks of one session; its record has numbers and kinds, no words.

    What the watchdog has seen since the oldest of them is told with them.
    """

    def __init__(self, session_id: str, running: RunningTrace, watchdog: LoopWatchdog | None = None) -> None:
        self._session_id = session_id
        self._running = running
        self._watchdog = watchdog
        self._ticks: deque[tuple[TickDone, tuple[str, ...]]] = deque(maxlen=TICKS)
        self._happened: list[str] = []
        self._written_s = -PAUSE_S

    def __call__(self, event: SessionEvent) -> None:
        """Note what has happened; write the record when a tick was missed."""
        if isinstance(event, TickDone):
            self._ticks.append((event, tuple(self._happened)))
            self._happened.clear()
            if event.count > 1 and time.monotonic() - self._written_s >= PAUSE_S:
                self._written_s = time.monotonic()
                self._write("missed")
        elif isinstance(event, (BargedIn, Delegated)):
            self._happened.append(type(event).__name__)
        elif isinstance(event, DelegationMoved):
            self._happened.append(event.event.kind)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Write the record if the block, in which the session lives, ends in an error."""
        try:
            yield
        except Exception as error:
            self._write("crashed", error)
            raise

    def _write(self, reason: FlightReason, error: Exception | None = None) -> None:
        if not self._ticks:
            return
        now_ns = time.time_ns()
        covered_ms = (self._ticks[-1][0].index - self._ticks[0][0].index + 1) * MICRO_TURN_MS
        rows = [_row(tick, happened) for tick, happened in self._ticks]
        span = TRACER.start_span(
            names.FLIGHT_SPAN,
            context=self._running.context or Context(),
            start_time=now_ns - round(covered_ms * 1e6),
            attributes={
                names.CONVERSATION_ID: self._session_id,
                names.FLIGHT_REASON: reason,
                names.FLIGHT_COLUMNS: COLUMNS,
                names.FLIGHT_TICKS: json.dumps(rows, separators=(",", ":")),
            },
        )
        for blockage in self._blockages(covered_ms):
            span.add_event(names.BLOCKED_EVENT, blockage.attributes, timestamp=blockage.at_ns)
        if error is not None:
            span.set_attribute(names.ERROR_TYPE, type(error).__name__)
        span.set_status(Status(StatusCode.ERROR))
        span.end(now_ns)

    def _blockages(self, within_ms: float) -> list[Blockage]:
        if self._watchdog is None:
            return []
        since_ns = time.time_ns() - round(within_ms * 1e6)
        return [blockage for blockage in self._watchdog.seen() if blockage.at_ns >= since_ns]


def _row(tick: TickDone, happened: tuple[str, ...]) -> Row:
    return (
        tick.index,
        tick.count,
        round(tick.step_ms, 2),
        round(tick.runtime_ms, 2),
        round(tick.lateness_ms, 2),
        tick.floor.holder.value,
        round(tick.heard_peak, 3),
        happened,
    )
