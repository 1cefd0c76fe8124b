"""Names what holds the event loop up: a thread that looks at the loop's stack when its heartbeat is overdue.

A call that keeps the interpreter to itself, such as a long one into C that does not let go of it, is seen only when it
is over; then what is named may be what came right after it. Local variables are never looked at.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

import anyio
from opentelemetry import metrics
from opentelemetry.util.types import AttributeValue

from microturn.protocols import MICRO_TURN_MS
from microturn.protocols import telemetry_names as names
from microturn.runtime.bus.own_tasks import own_tasks

HEARTBEAT_S: Final = 0.1
"""How often the loop shows that it lives. Our choice."""
OVERDUE_S: Final = MICRO_TURN_MS / 1000
"""Silence of the loop that is looked into: it has stood still for half of a tick's time at least. Our choice."""
KEPT: Final = 50
"""Blockages that are remembered. Our choice."""
_OWN: Final = "microturn."

_log = logging.getLogger(__name__)
_blocked = metrics.get_meter("microturn.runtime").create_counter(names.TICK_BLOCKED, "{blockage}")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code that was being run."""

    module: str
    function: str
    line: int

    def __str__(self) -> str:
        """As it stands in logs."""
        return f"{self.module}:{self.function}:{self.line}"


@dataclass(frozen=True, slots=True)
class Blockage:
    """The event loop stood still."""

    at_ns: int
    """When it was looked at: nanoseconds since 1970."""
    silent_s: float
    """For how long it had been silent then."""
    place: Place
    """What it was doing: the innermost call."""
    caller: Place | None
    """The innermost call of this project's own code, where that is another one."""

    @property
    def attributes(self) -> dict[str, AttributeValue]:
        """As they stand in a span event."""
        attributes: dict[str, AttributeValue] = {
            names.BLOCKED_S: round(self.silent_s, 3),
            names.CODE_FUNCTION: f"{self.place.module}.{self.place.function}",
            names.CODE_LINE: self.place.line,
        }
        if self.caller is not None:
            attributes[names.BLOCKED_FOR] = str(self.caller)
        return attributes


class LoopWatchdog:
    """Watches one event loop; made by `watched_loop`."""

    def __init__(self, loop_thread: int, *, overdue_s: float = OVERDUE_S) -> None:
        self._loop_thread = loop_thread
        self._overdue_s = overdue_s
        self._beat_s = time.monotonic()
        self._seen: deque[Blockage] = deque(maxlen=KEPT)
        self._is_armed = False
        self._end = threading.Event()

    def arm(self) -> None:
        """Say that the loop matters from now on: what held it while all was loaded is not told."""
        self._is_armed = True

    def seen(self) -> tuple[Blockage, ...]:
        """What it has seen, oldest first; the newest `KEPT`."""
        return tuple(self._seen)

    async def beat(self) -> None:
        """Show that the loop lives, until cancelled."""
        while True:
            self._beat_s = time.monotonic()
            await anyio.sleep(HEARTBEAT_S)

    def watch(self) -> None:
        """Look until told to end; on a thread of its own. Each blockage is told once."""
        told_s = 0.0
        while not self._end.wait(HEARTBEAT_S / 2):
            beat_s, now_s = self._beat_s, time.monotonic()
            silent_s = now_s - beat_s
            if self._is_armed and silent_s >= self._overdue_s and beat_s != told_s:
                told_s = beat_s
                self._look(silent_s)

    def end(self) -> None:
        """Have `watch` end."""
        self._end.set()

    def _look(self, silent_s: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        blockage = _blockage(frame, silent_s)
        if blockage is None:
            return
        self._seen.append(blockage)
        _blocked.add(1, {names.CODE_FUNCTION: f"{blockage.place.module}.{blockage.place.function}"})
        by = "" if blockage.caller is None else f", called from {blockage.caller}"
        _log.warning("The event loop has stood still for %d ms in %s%s.", silent_s * 1000, blockage.place, by)


@asynccontextmanager
async def watched_loop(*, overdue_s: float = OVERDUE_S) -> AsyncIterator[LoopWatchdog]:
    """Watch the event loop that this runs on until the end of the block."""
    watchdog = LoopWatchdog(threading.get_ident(), overdue_s=overdue_s)
    thread = threading.Thread(target=watchdog.watch, name="loop watchdog", daemon=True)
    async with own_tasks() as tasks:
        tasks.start_soon(watchdog.beat, name="heartbeat")
        thread.start()
        try:
            yield watchdog
        finally:
            watchdog.end()


def _blockage(frame: FrameType | None, silent_s: float) -> Blockage | None:
    """What a stack says; None where the loop waits for something to do, and is only late to be run."""
    if frame is None or frame.f_code.co_filename.endswith(("selectors.py", "base_events.py")):
        return None
    place, caller = _place(frame), None
    outer: FrameType | None = frame
    while outer is not None and caller is None:
        module = outer.f_globals.get("__name__", "")
        if module.startswith(_OWN) and module != __name__:
            caller = _place(outer)
        outer = outer.f_back
    return Blockage(time.time_ns(), silent_s, place, None if caller == place else caller)


def _place(frame: FrameType) -> Place:
    return Place(str(frame.f_globals.get("__name__", "?")), frame.f_code.co_qualname, frame.f_lineno)
