"""A background that needs no server: a delegation port whose results come by script, in session time.

It keeps what the bus keeps, so that a session can be taken over from it (`ledger`), and answers corrections as the bus
does: too late for a task that has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from microturn.protocols import (
    ContextPackage,
    DelegationEvent,
    EventKind,
    Promise,
    PromiseState,
    Receipt,
    Reference,
    SessionLedger,
    Speech,
)
from microturn.runtime.bus.attachments import ATTACHMENT_LIMIT_BYTES
from microturn.runtime.delegations import PortState


@dataclass(frozen=True, slots=True)
class Result:
    """One event that comes back, and how long after the hand-over."""

    after_ms: float
    kind: EventKind
    speech: Speech | None = None
    revision: int | None = None
    """How many corrections it takes into account; None for all that were made before it comes."""
    detail: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Due:
    at_ms: float
    event: DelegationEvent
    revision: int | None = None


@dataclass(slots=True)
class ScriptedBackground:
    """Answers every package with the results that `work` gives for it.

    `now_ms` must give the session time; `Host.beat.session_ms` does.
    """

    work: Callable[[ContextPackage], Sequence[Result]] = lambda _: ()
    now_ms: Callable[[], float] = lambda: 0.0
    limit: int = 64
    """Packages that are taken; one more is refused."""
    state: PortState = "ok"
    packages: list[ContextPackage] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    updates: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, int, str]] = field(default_factory=list)
    """What the user answered: the task, the number of the question, the words."""
    on_answer: Callable[[str, int, str], Sequence[Result]] = lambda *_: ()
    """What comes back once a question is answered, after the results of `work`."""
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    entered_ms: list[float] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    """All that were stored, oldest first."""
    promises: list[tuple[str, PromiseState]] = field(default_factory=list)
    """All that were settled, oldest first."""
    arrived: list[DelegationEvent] = field(default_factory=list)
    """Events that have come, whether or not a session has taken them."""
    kept: dict[str, bytes] = field(default_factory=dict)
    """What references stand for, by their keys."""
    _due: list[_Due] = field(default_factory=list)
    _ready: list[DelegationEvent] = field(default_factory=list)
    _deaf: set[str] = field(default_factory=set)
    _refused: list[str] = field(default_factory=list)
    _planned: dict[str, int] = field(default_factory=dict)
    """Number of the last event that was planned for each task."""

    def enter_nowait(self, session_ms: float) -> bool:
        """Keep when the session came."""
        self.entered_ms.append(session_ms)
        return True

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Take a package and plan its results."""
        if len(self.packages) >= self.limit:
            return False
        self.packages.append(package)
        self._plan(package.task_id, self.work(package))
        return True

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Forget the task's results that have not come."""
        self.cancelled.append(task_id)
        self._due = [due for due in self._due if due.event.task_id != task_id]

    def update_nowait(self, task_id: str, text: str) -> None:
        """Keep the correction, or refuse it where the task has ended."""
        self._collect()
        has_ended = any(event.task_id == task_id and event.is_terminal for event in self.arrived)
        if has_ended or task_id in self._deaf:
            self._refused.append(task_id)
        else:
            self.updates.append((task_id, text))

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        """Keep the first answer to a question, and plan what comes of it."""
        if any(answered[:2] == (task_id, seq) for answered in self.answers):
            return
        self.answers.append((task_id, seq, text))
        self._plan(task_id, self.on_answer(task_id, seq, text))

    def refused_updates(self) -> Sequence[str]:
        """Return the tasks that had ended when they were to be corrected."""
        refused, self._refused = tuple(self._refused), []
        return refused

    def adopted(self) -> Sequence[Promise]:
        """Nothing: nobody else hands over here."""
        return ()

    def refuse_updates_of(self, task_id: str) -> None:
        """Answer the next corrections of a task as if it had ended, without a terminal event yet."""
        self._deaf.add(task_id)

    def deliver(self, event: DelegationEvent) -> None:
        """Let an event arrive now, as often as this is called."""
        self._due.append(_Due(self.now_ms(), event, event.revision))

    def poll(self) -> Sequence[DelegationEvent]:
        """Return the events whose time has come."""
        if self.state == "moved":
            return ()
        self._collect()
        ready, self._ready = tuple(self._ready), []
        return ready

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Keep the acknowledgement."""
        self.acknowledged.append((task_id, seq))

    def receipt_nowait(self, receipt: Receipt) -> None:
        """Keep the receipt."""
        self.receipts.append(receipt)

    def promise_nowait(self, task_id: str, state: PromiseState) -> None:
        """Keep what became of a promise."""
        self.promises.append((task_id, state))

    def keep_nowait(self, data: bytes, media_type: str, time_ms: int) -> Reference | None:
        """Keep bytes for ever; None where the bus would not take them."""
        if not 0 < len(data) <= ATTACHMENT_LIMIT_BYTES or self.state == "moved":
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        self.kept[sha256] = data
        return Reference(key=sha256, sha256=sha256, media_type=media_type, time_ms=time_ms, ttl_s=120)

    def ledger(self) -> SessionLedger:
        """What the bus would give to the process that takes the session over now."""
        return SessionLedger(
            session_id=self.packages[0].session_id if self.packages else "none",
            runtime_id="scripted",
            epoch=1,
            elapsed_ms=round(self.now_ms()),
            promises=tuple(self._promise(package) for package in self.packages),
        )

    def _plan(self, task_id: str, results: Sequence[Result]) -> None:
        """Let results come, numbered after those that were planned before."""
        for result in results:
            seq = self._planned[task_id] = self._planned.get(task_id, 0) + 1
            event = DelegationEvent(
                task_id=task_id,
                attempt=1,
                seq=seq,
                kind=result.kind,
                speech=result.speech,
                detail=result.detail,
            )
            self._due.append(_Due(self.now_ms() + result.after_ms, event, result.revision))

    def _promise(self, package: ContextPackage) -> Promise:
        task_id = package.task_id
        events = {event.seq: event for event in self.arrived if event.task_id == task_id}
        ended = [event.kind for event in events.values() if event.is_terminal]
        return Promise(
            task_id=task_id,
            intent=package.intent,
            state=dict(self.promises).get(task_id, "open"),
            task_state=ended[-1] if ended else "running",
            revision=self._revision(task_id),
            made_ms=0,
            events=tuple(events[seq] for seq in sorted(events)),
            receipts=tuple({r.seq: r for r in self.receipts if r.task_id == task_id}.values()),
        )

    def _collect(self) -> None:
        """Let arrive what is due."""
        now_ms = self.now_ms()
        ready = [
            due.event.model_copy(
                update={
                    "revision": self._revision(due.event.task_id) if due.revision is None else due.revision
                }
            )
            for due in self._due
            if due.at_ms <= now_ms
        ]
        self._due = [due for due in self._due if due.at_ms > now_ms]
        self.arrived.extend(ready)
        self._ready.extend(ready)

    def _revision(self, task_id: str) -> int:
        return sum(updated == task_id for updated, _ in self.updates)
