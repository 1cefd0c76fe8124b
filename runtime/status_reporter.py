"""Gathers what a runtime says of itself to operators: its sessions, their floor and open tasks, and the beat.

An observer of each session notes the newest on the beat, which costs a microsecond; figures are made of it when they
are posted. Keeps names and numbers, never a word that was said.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from microturn.protocols import MICRO_TURN_MS, TERMINAL, Floor
from microturn.protocols.runtime_status import (
    MOST_SESSIONS,
    MOST_TASKS,
    RuntimeStatus,
    SessionStatus,
)
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.status_board import posting_status
from microturn.runtime.events import Delegated, DelegationMoved, Observer, SessionEvent, TickDone

WINDOW_TICKS = 60_000 // MICRO_TURN_MS
"""Steps of which the figures are made: those of the last minute."""


@dataclass(slots=True)
class _Watched:
    """What is known of one session."""

    began_s: float
    floor: Floor = Floor.NOBODY
    tasks: dict[str, None] = field(default_factory=dict)

    def status(self, session_id: str, now_s: float) -> SessionStatus:
        """For the board."""
        return SessionStatus(
            session_id=session_id,
            floor=self.floor,
            age_s=round(max(0.0, now_s - self.began_s), 1),
            open_tasks=len(self.tasks),
            task_ids=tuple(self.tasks)[-MOST_TASKS:],
        )


class StatusReporter:
    """Follows the sessions of one runtime. Used from the event loop's thread alone."""

    def __init__(self, runtime_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is in seconds and only tells ages."""
        self.runtime_id = runtime_id
        self._clock = clock
        self._sessions: dict[str, _Watched] = {}
        self._ticks: deque[tuple[float, float, int]] = deque(maxlen=WINDOW_TICKS)
        """When it was, how long the step took in ms, and how many micro-turns it covered."""
        self._newest = (-1, 0.0)
        """Index and duration of the newest step, which all sessions of a host report."""

    @contextmanager
    def following(self, session_id: str) -> Iterator[Observer]:
        """Follow a session until the end of the block, by the observer that is yielded."""
        watched = self._sessions[session_id] = _Watched(self._clock())
        try:
            yield lambda event: self._take(watched, event)
        finally:
            if self._sessions.get(session_id) is watched:
                del self._sessions[session_id]

    def status(self) -> RuntimeStatus:
        """How it is now."""
        now_s = self._clock()
        recent = [tick for tick in self._ticks if tick[0] > now_s - 60]
        durations = sorted(duration_ms for _, duration_ms, _ in recent)
        newest = list(self._sessions.items())[-MOST_SESSIONS:]
        return RuntimeStatus(
            runtime_id=self.runtime_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            sessions=tuple(watched.status(session_id, now_s) for session_id, watched in newest),
            session_count=len(self._sessions),
            ticks=len(recent),
            tick_p50_ms=_percentile(durations, 0.5),
            tick_p99_ms=_percentile(durations, 0.99),
            missed=sum(count - 1 for _, _, count in recent),
        )

    def _take(self, watched: _Watched, event: SessionEvent) -> None:
        match event:
            case TickDone():
                watched.floor = event.floor.holder
                self._note_step(event)
            case Delegated():
                watched.tasks[event.task_id] = None
            case DelegationMoved() if event.event.kind in TERMINAL:
                watched.tasks.pop(event.event.task_id, None)
            case _:
                pass

    def _note_step(self, tick: TickDone) -> None:
        step = (tick.index, tick.step_ms)
        if step != self._newest:
            self._newest = step
            self._ticks.append((self._clock(), tick.step_ms + tick.runtime_ms, tick.count))


@asynccontextmanager
async def open_status_reporter(settings: BusSettings, runtime_id: str) -> AsyncIterator[StatusReporter]:
    """Report on a runtime's sessions to the bus until the end of the block.

    `runtime_id` is that of its delegation port. Through an outage of the server nothing is reported, and nobody waits.

    Raises:
        BusAddressError: the URL is no address of a bus.
    """
    reporter = StatusReporter(runtime_id)
    async with posting_status(settings, reporter.status):
        yield reporter


def _percentile(ordered: list[float], share: float) -> float | None:
    """The nearest-rank percentile of ordered values, rounded to a hundredth of a millisecond."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
