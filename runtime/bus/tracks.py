"""What a runtime knows of its running tasks: which event comes next, and what was not acknowledged yet.

Pure bookkeeping, so that the order of events can be tested without a server.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from microturn.protocols import TERMINAL, DelegationEvent
from microturn.runtime.bus.stored_task import StoredTask, shifted


@dataclass(frozen=True, slots=True)
class Lagged:
    """Events of a task are missing and will not come. Only a server that lost data makes such a gap."""

    task_id: str
    first_missing: int
    next_seq: int
    """Number of the event that follows the gap."""


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """Another runtime has taken a session over. Nothing more of it comes here, and nothing said here counts."""

    session_id: str


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """A correction did not reach its task: it had ended, or could not be told in time. What it did is not undone."""

    task_id: str


BusEvent: TypeAlias = DelegationEvent | Lagged | SessionMoved | UpdateRefused


@dataclass(slots=True)
class Track:
    """One running task."""

    shard: int
    session_id: str = ""
    deadline_s: float = math.inf
    """On the port's clock."""
    next_seq: int = 0
    shift_ms: int = 0
    """To be added to session times: the task was handed over by an earlier clock of its session."""
    is_held: bool = False
    """Whether its events wait until it is known where it stands."""
    held: list[tuple[DelegationEvent, str]] = field(default_factory=list)
    is_ended: bool = False
    """Whether the terminal event was passed on."""
    check_at_s: float = math.inf
    """When to ask the server why no terminal event has come."""
    was_checked: bool = False
    unacknowledged: deque[tuple[int, str]] = field(default_factory=deque)
    """Number and inbox entry of what was passed on and not taken in for good."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes, and all that came was taken in for good."""
        return self.is_ended and not self.unacknowledged

    def place(self, stored: StoredTask, now_s: float) -> None:
        """Stand behind the last event that the server has stored, and hold nothing back any more."""
        self.is_held = False
        self.next_seq = max(self.next_seq, stored.seq + 1)
        self.is_ended = stored.promise.task_state in TERMINAL
        self.shift_ms = stored.shift_ms
        self.deadline_s = self.check_at_s = now_s + stored.left_ms / 1000
        self.was_checked = False

    def take_held(self) -> list[tuple[DelegationEvent, str]]:
        """Return what was held back."""
        held, self.held = self.held, []
        return held

    def admit(self, event: DelegationEvent, entry_id: str) -> tuple[BusEvent, ...]:
        """Return what is to be passed on: the event, after a `Lagged` where some are missing; nothing if seen."""
        if self.is_ended or event.seq < self.next_seq:
            return ()
        event = shifted(event, self.shift_ms)
        lagged = (Lagged(event.task_id, self.next_seq, event.seq),) if event.seq > self.next_seq else ()
        self.next_seq = event.seq + 1
        self.is_ended = event.is_terminal
        self.unacknowledged.append((event.seq, entry_id))
        return (*lagged, event)

    def settle(self, seq: int) -> list[str]:
        """Forget the events up to `seq`, and return their inbox entries."""
        entries: list[str] = []
        while self.unacknowledged and self.unacknowledged[0][0] <= seq:
            entries.append(self.unacknowledged.popleft()[1])
        return entries


class EventBuffer:
    """Events on their way to the one who iterates over them.

    The inbox reader waits for room, so what is not read stays on the server, where the workers see it as backlog.
    Events that the port makes itself are taken always: there is at most one for each submitted task.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[BusEvent] = deque()
        self._closed = False
        self._changed: anyio.Event | None = None
        """Set at the next change; None where nobody waits for one."""

    @property
    def is_full(self) -> bool:
        """Whether the inbox reader has to wait."""
        return len(self._events) >= self._limit

    def put(self, event: BusEvent) -> None:
        """Add an event. Never waits."""
        self._events.append(event)
        self._notify()

    def discard(self, is_outdated: Callable[[BusEvent], bool]) -> None:
        """Take back what was not read yet and need not be any more."""
        self._events = deque(event for event in self._events if not is_outdated(event))
        self._notify()

    def close(self) -> None:
        """End the iteration once what is buffered has been read."""
        self._closed = True
        self._notify()

    async def room(self) -> None:
        """Wait until the buffer is not full."""
        while self.is_full:
            await self._change()

    async def get(self) -> BusEvent | None:
        """Wait for the next event; None is the end."""
        while not self._events:
            if self._closed:
                return None
            await self._change()
        event = self._events.popleft()
        self._notify()
        return event

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
