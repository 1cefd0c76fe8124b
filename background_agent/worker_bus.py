"""The seam between a worker and the queue that feeds it: what a worker takes, sends and is told.

An implementation delivers at least once and fences: it knows which attempt owns a task, refuses the words of any
other, and drops a number that it has seen. It knows nothing of models and tools; a worker knows nothing of
streams, leases in seconds and servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from microturn.protocols import ContextPackage, DelegationEvent, Receipt, Reference


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """One delivery of a task. The same task may be delivered again under the same `entry_id`."""

    entry_id: str
    """The queue's name of the delivery; the worker only hands it back."""
    package: ContextPackage


@dataclass(frozen=True, slots=True)
class Begun:
    """A task that is now this worker's."""

    attempt: int
    """The fencing token, counted from 1."""
    next_seq: int
    """Number of the first event that this attempt sends."""
    emitted: tuple[DelegationEvent, ...] = ()
    """What earlier attempts sent, in order. It may have been spoken, and cannot be unsaid."""
    remaining_s: float = 60.0
    """Time left until the deadline, by the queue's clock."""
    receipts: tuple[Receipt, ...] = ()
    """What has become of the words in `emitted`, where it is known: the newest receipt of each event."""
    updates: tuple[str, ...] = ()
    """Corrections from the user that came before this attempt, oldest first; they are not given again."""
    answers: Mapping[int, str] = field(default_factory=dict)
    """What the user has answered to questions in `emitted`, by number. An empty text is a refusal to answer."""


@dataclass(frozen=True, slots=True)
class EmitResult:
    """What the queue says to some events."""

    fenced: bool = False
    """Whether another attempt owns the task; nothing was sent, and this attempt must stop in silence."""
    duplicate: bool = False
    """Whether all numbers were seen before; nothing was sent, and all is well."""
    cancel: bool = False
    """Whether the user no longer wants the task."""
    updates: tuple[str, ...] = ()
    """Corrections from the user that this attempt was not yet told of, oldest first."""
    backlog: int = 0
    """Events that the reader of this task's results has not taken in yet."""
    receipts: tuple[Receipt, ...] = ()
    """What became of events of this task, as far as this attempt was not yet told, oldest first."""
    corrected: bool = False
    """Whether a last event was refused because the user has corrected the task since; `updates` has how. The task
    goes on, and its number was not used."""
    answers: Mapping[int, str] = field(default_factory=dict)
    """The user's answers that this attempt was not yet told of, by the number of the question."""


@dataclass(frozen=True, slots=True)
class BeatResult:
    """What the queue says to a sign of life. The fields are those of `EmitResult`."""

    fenced: bool = False
    cancel: bool = False
    updates: tuple[str, ...] = ()
    backlog: int = 0
    receipts: tuple[Receipt, ...] = ()
    answers: Mapping[int, str] = field(default_factory=dict)


class WorkerBus(Protocol):
    """A worker's side of the delegation bus. Every method is a cancellation point and may be called concurrently.

    A connection that fails is repeated inside, as long as the lease allows; every method is safe to repeat.
    """

    async def take(self, *, urgent_only: bool = False) -> TaskEntry:
        """Wait for a delivery, an urgent task before any other; with `urgent_only` for an urgent task alone.

        A call that waits for urgent tasks does not wait for one that waits for any. A cancelled call loses none:
        what it took comes again after the lease.
        """

    async def begin(self, entry: TaskEntry) -> Begun | None:
        """Make the task this worker's.

        Returns None where there is nothing to run: it ended, was cancelled, expired, or was tried too often; the
        queue has then sent the terminal event itself and forgotten the entry.
        """

    async def emit(
        self, task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        """Send events whose numbers follow one another; with `finish` the last one ends the task and forgets its entry.

        All in one step. Those whose numbers were used are left out, so that a call may be repeated; only a last
        event is sent under the next number instead. Where a last event is refused as `corrected`, those before it
        are sent all the same.
        """

    async def beat(self, entry: TaskEntry, attempt: int) -> BeatResult:
        """Renew the lease of a task that really runs."""

    async def until_news(self, entry: TaskEntry, attempt: int) -> None:
        """Wait until there may be news of a running task, which a `beat` then tells.

        A help and no promise: it may return for nothing, late or never, so the regular beats go on.
        """

    async def load(self, entry: TaskEntry, reference: Reference) -> bytes:
        """Return the bytes that a reference in the task's package stands for.

        Raises:
            ReferenceGoneError: they are not there any more.
            ReferenceAlteredError: what is there is not what was kept.
        """
