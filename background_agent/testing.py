"""A delegation bus in memory, to test workers and engines without a server.

It keeps the promises of `WorkerBus`: attempts, fencing, numbers, cancellation, updates. It has no leases: a test
says when a task is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Speech


@dataclass(slots=True)
class TaskRecord:
    """One task as the bus sees it."""

    package: ContextPackage
    attempt: int = 0
    seq: int = 0
    """Number of the newest event; 0 is `accepted`, which the bus itself has sent."""
    ended: bool = False
    cancelled: bool = False
    updates: list[str] = field(default_factory=list)
    updates_seen: int = 0
    beats: int = 0
    events: list[DelegationEvent] = field(default_factory=list)
    unread: int = 0
    done: anyio.Event = field(default_factory=anyio.Event)

    def kinds(self) -> list[EventKind]:
        """The kinds of its events in order."""
        return [event.kind for event in self.events]

    def spoken(self) -> list[str]:
        """The words of its events in order."""
        return [event.speech.text for event in self.events if event.speech is not None]

    def speeches(self) -> list[Speech]:
        """The speeches of its events in order."""
        return [event.speech for event in self.events if event.speech is not None]


class InMemoryWorkerBus:
    """A `WorkerBus` in one process, with the runtime's side as plain methods."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskRecord] = {}
        self._waiting: list[str] = []
        self._arrived = anyio.Condition()

    async def submit(self, package: ContextPackage) -> TaskRecord:
        """Queue a task; a second package of the same id is the same task."""
        if package.task_id in self.tasks:
            return self.tasks[package.task_id]
        record = self.tasks[package.task_id] = TaskRecord(package)
        await self._deliver(package.task_id)
        return record

    async def redeliver(self, task_id: str) -> None:
        """Hand the task to whoever takes next, as after a lease; its `begin` fences the attempt before."""
        await self._deliver(task_id)

    def cancel(self, task_id: str) -> None:
        """Ask for a task to be stopped."""
        self.tasks[task_id].cancelled = True

    def update(self, task_id: str, text: str) -> None:
        """Tell a task what has changed."""
        self.tasks[task_id].updates.append(text)

    def read_all(self, task_id: str) -> None:
        """Take in all events of a task, so that its backlog is empty."""
        self.tasks[task_id].unread = 0

    async def take(self) -> TaskEntry:
        """See `WorkerBus`."""
        async with self._arrived:
            while not self._waiting:
                await self._arrived.wait()
            task_id = self._waiting.pop(0)
        return TaskEntry(task_id, self.tasks[task_id].package)

    async def begin(self, entry: TaskEntry) -> Begun | None:
        """See `WorkerBus`."""
        record = self.tasks[entry.package.task_id]
        if record.ended:
            return None
        record.attempt += 1
        emitted = tuple(record.events)
        return Begun(record.attempt, record.seq + 1, emitted, record.package.deadline_s)

    async def emit(
        self, task_id: str, attempt: int, seq: int, event: DelegationEvent, *, finish: bool = False
    ) -> EmitResult:
        """See `WorkerBus`."""
        record = self.tasks[task_id]
        if record.ended or attempt != record.attempt:
            return EmitResult(fenced=True)
        if seq <= record.seq:
            return EmitResult(duplicate=True, cancel=record.cancelled, backlog=record.unread)
        record.events.append(event)
        record.seq = seq
        record.unread += 1
        if finish:
            record.ended = True
            record.done.set()
        return EmitResult(cancel=record.cancelled, updates=_news(record), backlog=record.unread)

    async def beat(self, entry: TaskEntry, attempt: int) -> BeatResult:
        """See `WorkerBus`."""
        record = self.tasks[entry.package.task_id]
        if record.ended or attempt != record.attempt:
            return BeatResult(fenced=True)
        record.beats += 1
        return BeatResult(cancel=record.cancelled, updates=_news(record), backlog=record.unread)

    async def _deliver(self, task_id: str) -> None:
        async with self._arrived:
            self._waiting.append(task_id)
            self._arrived.notify()


def _news(record: TaskRecord) -> tuple[str, ...]:
    news = tuple(record.updates[record.updates_seen :])
    record.updates_seen = len(record.updates)
    return news
