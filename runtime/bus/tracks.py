"""What a runtime knows of its running tasks: which event comes next, and what was not acknowledged yet.

Pure bookkeeping, so that the order of events can be tested without a server.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio

from microturn.protocols import DelegationEvent


@dataclass(frozen=True, slots=True)
class Lagged:
    """Events of a task are missing and will not come. Only a server that lost data makes such a gap."""

    task_id: str
    first_missing: int
    next_seq: int
    """Number of the event that follows the gap."""


BusEvent: TypeAlias = DelegationEvent | Lagged


@dataclass(slots=True)
class Track:
    """One running task."""

    shard: int
    deadline_s: float = math.inf
    """On the port's clock."""
    next_seq: int = 0
    is_ended: bool = False
    """Whether the terminal event was passed on."""
    check_at_s: float = math.inf
    """When to ask the server why no terminal event has come."""
    was_checked: bool = False
    unacknowledged: deque[tuple[int, str]] = field(default_factory=deque)
    """Number and inbox entry of what was passed on and not taken in for good."""

    def admit(self, event: DelegationEvent, entry_id: str) -> tuple[BusEvent, ...]:
        """Return what is to be passed on: the event, after a `Lagged` where some are missing; nothing if seen."""
        if self.is_ended or event.seq < self.next_seq:
            return ()
        lagged = (Lagged(event.task_id, self.next_seq, event.seq),) if event.seq > self.next_seq else ()
        self.next_seq = event.seq + 1
        self.is_ended = event.is_terminal
        self.unacknowledged.append((event.seq, entry_id))
        return (*lagged, event)

    def entries_up_to(self, seq: int) -> list[str]:
        """The inbox entries of the unacknowledged events up to `seq`."""
        return [entry_id for number, entry_id in self.unacknowledged if number <= seq]

    def settle(self, seq: int) -> None:
        """Forget the events up to `seq`."""
        while self.unacknowledged and self.unacknowledged[0][0] <= seq:
            self.unacknowledged.popleft()


class EventBuffer:
    """Events on their way to the one who iterates over them.

    The inbox reader waits for room, so what is not read stays on the server, where the workers see it as backlog.
    Events that the port makes itself are taken always: there is at most one for each submitted task.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[BusEvent] = deque()
        self._closed = False
        self._changed = anyio.Event()

    @property
    def is_full(self) -> bool:
        """Whether the inbox reader has to wait."""
        return len(self._events) >= self._limit

    def put(self, event: BusEvent) -> None:
        """Add an event. Never waits."""
        self._events.append(event)
        self._notify()

    def close(self) -> None:
        """End the iteration once what is buffered has been read."""
        self._closed = True
        self._notify()

    async def room(self) -> None:
        """Wait until the buffer is not full."""
        while self.is_full:
            await self._changed.wait()

    async def get(self) -> BusEvent | None:
        """Wait for the next event; None is the end."""
        while not self._events:
            if self._closed:
                return None
            await self._changed.wait()
        event = self._events.popleft()
        self._notify()
        return event

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
