"""A delegation bus in memory, to test workers and engines without a server.

It keeps the promises of `WorkerBus`: attempts, fencing, numbers, cancellation, corrections, answers, receipts, urgent
tasks first. It has no leases: a test says when a task is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from microturn.background_agent.worker_bus import BeatResult, Begun, EmitResult, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Receipt, Reference, Speech
from microturn.tools import ReferenceGoneError

_REFUSABLE = frozenset({"final", "failed"})
"""Ends that are refused while there is a correction that they do not take into account."""


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
    """The user's corrections; their number is the task's revision."""
    updates_seen: int = 0
    answers: dict[int, str] = field(default_factory=dict)
    """The user's answers, by the number of the question; in the order in which they came."""
    answers_seen: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    receipts_seen: int = 0
    news: anyio.Event = field(default_factory=anyio.Event)
    """Set when the worker should ask for news, and then replaced."""
    beats: int = 0
    events: list[DelegationEvent] = field(default_factory=list)
    unread: int = 0
    done: anyio.Event = field(default_factory=anyio.Event)

    def send(self, events: Sequence[DelegationEvent]) -> None:
        """Take in events that are new."""
        self.events.extend(events)
        self.unread += len(events)
        if events:
            self.seq = events[-1].seq

    def ring(self) -> None:
        """Have the worker ask for news."""
        news, self.news = self.news, anyio.Event()
        news.set()

    def kinds(self) -> list[EventKind]:
        """The kinds of its events in order."""
        return [event.kind for event in self.events]

    def spoken(self) -> list[str]:
        """The words of its events in order."""
        return [event.speech.text for event in self.events if event.speech is not None]

    def questions(self) -> list[DelegationEvent]:
        """The questions that it has put to the user, in order."""
        return [event for event in self.events if event.is_question]

    def speeches(self) -> list[Speech]:
        """The speeches of its events in order."""
        return [event.speech for event in self.events if event.speech is not None]


class InMemoryWorkerBus:
    """A `WorkerBus` in one process, with the runtime's side as plain methods."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskRecord] = {}
        self.kept: dict[str, bytes] = {}
        """What references stand for, by their keys."""
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
        self.tasks[task_id].ring()

    def update(self, task_id: str, text: str) -> bool:
        """Correct a task; false where it has ended, which is too late."""
        record = self.tasks[task_id]
        if not record.ended:
            record.updates.append(text)
            record.ring()
        return not record.ended

    def answer(self, task_id: str, seq: int, text: str) -> bool:
        """Answer a task's question; the first answer stays. False where it comes too late or there is no such question.

        An empty text is a refusal to answer.
        """
        record = self.tasks[task_id]
        if record.ended or seq > record.seq:
            return False
        record.answers.setdefault(seq, text)
        record.ring()
        return True

    def receipt(self, receipt: Receipt) -> None:
        """Say what has become of an event's words."""
        self.tasks[receipt.task_id].receipts.append(receipt)

    def read_all(self, task_id: str) -> None:
        """Take in all events of a task, so that its backlog is empty."""
        self.tasks[task_id].unread = 0

    async def take(self, *, urgent_only: bool = False) -> TaskEntry:
        """See `WorkerBus`."""
        async with self._arrived:
            while (task_id := self._next(urgent_only)) is None:
                await self._arrived.wait()
            self._waiting.remove(task_id)
        return TaskEntry(task_id, self.tasks[task_id].package)

    async def begin(self, entry: TaskEntry) -> Begun | None:
        """See `WorkerBus`."""
        record = self.tasks[entry.package.task_id]
        if record.ended:
            return None
        record.attempt += 1
        record.updates_seen, record.receipts_seen = len(record.updates), len(record.receipts)
        record.answers_seen = len(record.answers)
        newest = {receipt.seq: receipt for receipt in record.receipts}
        return Begun(
            record.attempt,
            record.seq + 1,
            emitted=tuple(record.events),
            remaining_s=record.package.deadline_s,
            receipts=tuple(newest.values()),
            updates=tuple(record.updates),
            answers=dict(record.answers),
        )

    async def emit(
        self, task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        """See `WorkerBus`."""
        record = self.tasks[task_id]
        if attempt != record.attempt:
            return EmitResult(fenced=True)
        if record.ended:
            # The same end seen twice is a call that was repeated: it has succeeded.
            return EmitResult() if finish and record.events[-1] == events[-1] else EmitResult(fenced=True)
        last = events[-1]
        corrected = finish and last.kind in _REFUSABLE and last.revision < len(record.updates)
        new = [event for event in events[: -1 if corrected else None] if event.seq > record.seq]
        if finish and not corrected and not new:  # its number was used for another
            new = [last.model_copy(update={"seq": record.seq + 1})]
        if not new and not corrected:
            return EmitResult(duplicate=True, cancel=record.cancelled, backlog=record.unread)
        record.send(new)
        if finish and not corrected:
            record.ended = True
            record.done.set()
        return _news(record, corrected=corrected)

    async def until_news(self, entry: TaskEntry, attempt: int) -> None:
        """See `WorkerBus`."""
        await self.tasks[entry.package.task_id].news.wait()

    async def load(self, entry: TaskEntry, reference: Reference) -> bytes:
        """See `WorkerBus`."""
        if reference.key not in self.kept:
            raise ReferenceGoneError(reference)
        return self.kept[reference.key]

    async def beat(self, entry: TaskEntry, attempt: int) -> BeatResult:
        """See `WorkerBus`."""
        record = self.tasks[entry.package.task_id]
        if record.ended or attempt != record.attempt:
            return BeatResult(fenced=True)
        record.beats += 1
        news = _news(record)
        return BeatResult(
            cancel=news.cancel,
            updates=news.updates,
            backlog=news.backlog,
            receipts=news.receipts,
            answers=news.answers,
        )

    def _next(self, urgent_only: bool) -> str | None:
        """The task that is handed out next: the oldest urgent one, else the oldest."""
        urgent = [task_id for task_id in self._waiting if self.tasks[task_id].package.urgent]
        others = [] if urgent_only else self._waiting
        return next(iter([*urgent, *others]), None)

    async def _deliver(self, task_id: str) -> None:
        async with self._arrived:
            self._waiting.append(task_id)
            self._arrived.notify_all()


def _news(record: TaskRecord, *, corrected: bool = False) -> EmitResult:
    """What the attempt was not yet told of."""
    updates = tuple(record.updates[record.updates_seen :])
    receipts = tuple(record.receipts[record.receipts_seen :])
    answers = dict(list(record.answers.items())[record.answers_seen :])
    record.updates_seen, record.receipts_seen = len(record.updates), len(record.receipts)
    record.answers_seen = len(record.answers)
    return EmitResult(
        cancel=record.cancelled,
        updates=updates,
        backlog=record.unread,
        receipts=receipts,
        corrected=corrected,
        answers=answers,
    )
