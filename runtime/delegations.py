"""A session's delegations: what was handed over, how it stands, and the port through which it goes.

The beat talks to the background only through a `DelegationPort`, none of whose methods wait. The bus in
`runtime/bus` is one; `runtime/testing` has another that needs no server.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeAlias
from uuid import uuid4

from microturn.protocols import (
    ContextPackage,
    Delegate,
    DelegationEvent,
    Promise,
    PromiseState,
    Receipt,
    ReceiptState,
    Reference,
    RunningDelegation,
    Speech,
    Update,
)
from microturn.runtime.delegation import Delegation
from microturn.runtime.history import History
from microturn.runtime.key_frames import KeyFrames
from microturn.runtime.reopened import Reopened
from microturn.runtime.tool_memory import ToolMemory

PortState: TypeAlias = Literal["ok", "no_worker", "unreachable", "moved"]
"""`moved`: another process has the session now, and nothing is said or handed over from here any more."""
TOLD_AFTER_MS = 1400
"""How long a task may wait for a worker before the user is told; with a micro-turn and the voice, under 2 s."""
RUNTIME_TASK = "runtime"
"""Task id under which the runtime itself has something to say."""
NO_WORKER_TEXT = "Nobody is free to work on that yet. I have kept it, and will tell you as soon as I know."
UNREACHABLE_TEXT = "I cannot reach my background right now. I have kept your question and will try again."
FAILED_TEXTS = {
    "failed": "Something went wrong with what you asked, and I could not finish it.",
    "expired": "What you asked took too long, so I have stopped trying.",
    "dead": "I tried what you asked three times and could not get it done.",
}
"""What the user is told of a task that ended badly where the background did not find words of its own."""
REFUSED_TEXT = "I have too much waiting already. Please ask me that again in a moment."
CORRECTABLE_MS = 30_000
"""How long after a task was last heard of or spoken of a correction that names none is taken to mean it, although it
has ended. Our choice."""


class DelegationPort(Protocol):
    """One session's side of the way to the background. Nothing here waits; all of it is called on the beat."""

    def enter_nowait(self, session_ms: float) -> bool:
        """Say that the session is here, and its time now; false when too much waits already."""

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a package over; false when too many wait already, and nothing was taken."""

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Ask for a task to be cancelled."""

    def update_nowait(self, task_id: str, text: str) -> None:
        """Tell a running task what has changed. If it has ended, `refused_updates` says so later."""

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        """Tell a running task what the user answered to its question `seq`; empty where the user will not answer."""

    def refused_updates(self) -> Sequence[str]:
        """Return the tasks that have ended before an update reached them, since the last call."""

    def adopted(self) -> Sequence[Promise]:
        """Return the tasks that somebody else has handed over for the session, since the last call.

        Their events come only after that.
        """

    def poll(self) -> Sequence[DelegationEvent]:
        """Return the events that arrived since the last call, in order per task."""

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Say that an event has been woven or settled, so that it need not be delivered again."""

    def receipt_nowait(self, receipt: Receipt) -> None:
        """Store what became of an event's words."""

    def promise_nowait(self, task_id: str, state: PromiseState) -> None:
        """Store what became of the promise of a task."""

    def keep_nowait(self, data: bytes, media_type: str, time_ms: int) -> Reference | None:
        """Keep bytes, such as a picture, for tasks that are handed over; None where they are too large.

        `time_ms` is the session time of what they show. What the result stands for may be gone when it is asked for.
        """

    @property
    def state(self) -> PortState:
        """Whether the background can be reached and somebody works there, as last known."""


class Delegations:
    """The delegations of one session. Owned by the beat."""

    def __init__(
        self,
        session_id: str,
        port: DelegationPort,
        deadline_s: float = 120.0,
        reopened: Reopened | None = None,
    ) -> None:
        self._session_id = session_id
        self._port = port
        self._deadline_s = deadline_s
        self._recalled = reopened.recalled() if reopened is not None else None
        self._notices = 0
        self._tools = ToolMemory()
        self.key_frames = KeyFrames()
        self.all: dict[str, Delegation] = {}
        self._unfinished: dict[str, Delegation] = {}
        """Those that may still need something done on the beat, so that a long session costs no more than a short."""
        if reopened is not None:
            for promise in reopened.ledger.promises:
                self._add(Delegation.restored(promise, reopened.now_ms, reopened.shift_ms))

    @property
    def open_ids(self) -> tuple[str, ...]:
        """Tasks of which more may come, oldest first."""
        return tuple(task_id for task_id, task in self._unfinished.items() if task.is_open)

    @property
    def awaited_ids(self) -> tuple[str, ...]:
        """Those of them that the user wants."""
        return tuple(i for i, task in self._unfinished.items() if task.is_open and not task.unwanted)

    @property
    def is_awaited(self) -> bool:
        """Whether anything is still to come: of an open task, or of a correction that came too late for its task."""
        return any(task.is_open or task.is_outdated for task in self._unfinished.values())

    def submit(
        self, action: Delegate, history: History, now_ms: float, trace_of: Callable[[str], dict[str, str]]
    ) -> Delegation:
        """Hand a task over with all that is known. Its `state` is `refused` when the queue is full.

        Args:
            action: what is wanted.
            history: what was said so far.
            now_ms: session time.
            trace_of: makes the trace context that travels with the task, from its id.
        """
        task_id = uuid4().hex
        package = ContextPackage(
            task_id=task_id,
            session_id=self._session_id,
            idempotency_key=f"{self._session_id}:{task_id}",
            intent=action.intent,
            agent=action.agent,
            urgent=action.urgent,
            said_start_ms=action.said_start_ms,
            said_end_ms=action.said_end_ms,
            local_time=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            deadline_s=self._deadline_s,
            history=history.turns,
            summary=self._recalled,
            key_frames=self.key_frames.at(now_ms),
            tool_state=self._tools.state(self.all),
            running=tuple(
                RunningDelegation(task_id=i, intent=self.all[i].intent, state=self.all[i].state)
                for i in self.open_ids
            ),
            trace=trace_of(task_id),
        ).fitted()
        delegation = Delegation(task_id, action, now_ms, submitted_ms=now_ms, trace=package.trace)
        if not self._port.submit_nowait(package):
            delegation.state, delegation.promise = "refused", "failed"
        self._add(delegation)
        return delegation

    def adopt(self, promise: Promise, now_ms: float) -> Delegation:
        """Take in a task that somebody else has handed over: its results are told like those of any other.

        It is what was asked longest ago: what the user corrects or completes next is what they said last.
        """
        delegation = Delegation.adopted(promise, now_ms)
        self.all = {delegation.task_id: delegation, **self.all}
        self._unfinished[delegation.task_id] = delegation
        return delegation

    def cancel(self, task_id: str | None, reason: str) -> None:
        """Ask for one task, or all open ones, to be cancelled."""
        for each in self.open_ids if task_id is None else (task_id,):
            if each in self.all:
                self.all[each].unwanted = True
                self._conclude(self.all[each])
            self._port.cancel_nowait(each, reason)

    def corrected_by(self, update: Update, now_ms: float) -> Delegation | None:
        """The task that a correction means: the one that it names, else the newest that is wanted and has either not
        ended or was of late the matter of the conversation.
        """
        if update.task_id is not None:
            return self.all.get(update.task_id)
        for delegation in reversed(self.all.values()):
            is_recent = now_ms - delegation.touched_ms <= CORRECTABLE_MS
            if not delegation.unwanted and (delegation.is_open or is_recent):
                return delegation
        return None

    def update(self, delegation: Delegation, update: Update) -> None:
        """Tell a running task what has changed. What it says without knowing that is not said any more."""
        delegation.corrections.append(update)
        delegation.revision += 1
        self._port.update_nowait(delegation.task_id, update.text)

    def answer(self, task_id: str, seq: int, text: str) -> None:
        """Pass on what the user answered to a task's question; empty where the user will not answer."""
        self._port.answer_nowait(task_id, seq, text)

    def redone(self, delegation: Delegation) -> Delegate:
        """Give up a task that ended before it knew of its corrections, and return what is to be done instead."""
        last = delegation.corrections[-1]
        order = replace(
            delegation.order,
            intent=delegation.intent,
            said_start_ms=last.said_start_ms,
            said_end_ms=last.said_end_ms,
            completes_last=False,
        )
        if delegation.is_open:
            self._port.cancel_nowait(delegation.task_id, "it was handed over again with a correction")
        delegation.unwanted = True
        self._conclude(delegation)
        return order

    def note(self, event: DelegationEvent, now_ms: float) -> DelegationEvent | None:
        """Keep what an event says, and return it as the session is to take it; None where it came before, or is of a
        task that is not this session's.

        Its times become the session's own, and where it ends badly without a word to the user it gets some.
        """
        delegation = self.all.get(event.task_id)
        if delegation is None:
            return None
        if event.seq <= delegation.newest_seq:
            if not delegation.unsettled or event.seq < delegation.unsettled[0]:
                self._port.acknowledge_nowait(event.task_id, event.seq)
            return None
        delegation.unsettled.append(event.seq)
        delegation.touched_ms = now_ms
        self._tools.note(event, now_ms)
        told = self._told(event, delegation)
        delegation.note(told)
        return told

    def recall(self, event: DelegationEvent, receipt: Receipt | None) -> DelegationEvent:
        """As `note`, for an event that stands in the ledger of a session that was taken over."""
        delegation = self.all[event.task_id]
        self._tools.note(event, None)
        told = self._told(event, delegation)
        delegation.note(told)
        if receipt is not None and event.seq in delegation.pieces:
            delegation.pieces[event.seq] = receipt.state
        return told

    def conclude(self, task_id: str) -> None:
        """Store what has become of a task's promise, if that is decided and was not stored yet."""
        self._conclude(self.all[task_id])

    def fate_of(self, event: DelegationEvent) -> ReceiptState | None:
        """What becomes of an event's words that are not to be said; None where they are."""
        delegation = self.all.get(event.task_id)
        return delegation.fate_of(event) if delegation is not None else None

    def take_receipt(self, receipt: Receipt) -> None:
        """Take in what became of an event's words, store it, and acknowledge what needs no more deliveries."""
        delegation = self.all.get(receipt.task_id)
        if delegation is None or receipt.state == "queued":
            return
        self._port.receipt_nowait(receipt)
        delegation.touched_ms = receipt.session_ms
        if receipt.seq in delegation.pieces:
            delegation.pieces[receipt.seq] = receipt.state
        self.settle(receipt.task_id, receipt.seq)

    def settle(self, task_id: str, seq: int) -> None:
        """Acknowledge an event, as soon as all earlier ones of its task are settled too.

        What is acknowledged is not delivered again, so a number is only passed on when nothing before it is still to
        be said.
        """
        delegation = self.all.get(task_id)
        if delegation is None:
            return
        if seq in delegation.unsettled:
            delegation.settled.add(seq)
        newest = None
        while delegation.unsettled and delegation.unsettled[0] in delegation.settled:
            newest = delegation.unsettled.popleft()
            delegation.settled.discard(newest)
        if newest is not None:
            self._port.acknowledge_nowait(task_id, newest)
        self._conclude(delegation)

    def notices(self, now_ms: float) -> list[DelegationEvent]:
        """Return what the user should be told of tasks that nobody has taken up in time, each once."""
        texts = []
        for task_id, delegation in list(self._unfinished.items()):
            text = None if delegation.told else self._trouble(delegation, now_ms)
            if text is not None:
                delegation.told = True
                texts.append(text)
            if not delegation.is_open and delegation.promise != "open":
                del self._unfinished[task_id]
        return [self._notice(text, now_ms) for text in dict.fromkeys(texts)]

    def _trouble(self, delegation: Delegation, now_ms: float) -> str | None:
        """What is to be told of a task that waits."""
        if delegation.state == "refused":
            return REFUSED_TEXT
        state, waited_ms = self._port.state, now_ms - delegation.submitted_ms
        if not delegation.is_untouched or waited_ms < TOLD_AFTER_MS or state in ("ok", "moved"):
            return None
        return NO_WORKER_TEXT if state == "no_worker" else UNREACHABLE_TEXT

    def _notice(self, text: str, now_ms: float) -> DelegationEvent:
        self._notices += 1
        speech = Speech(text=text, mode="pause", priority=1, expires_ms=round(now_ms) + 8000)
        return DelegationEvent(
            task_id=RUNTIME_TASK, attempt=0, seq=self._notices, kind="partial", speech=speech, text=text
        )

    def _told(self, event: DelegationEvent, delegation: Delegation) -> DelegationEvent:
        """An event with words for the user where it ends badly without any, at times of this session."""
        if event.speech is None and event.kind in FAILED_TEXTS:
            text = REFUSED_TEXT if event.detail.get("reason") == "queue_full" else FAILED_TEXTS[event.kind]
            return event.model_copy(update={"speech": Speech(text=text, mode="pause")})
        if event.speech is None or not delegation.shift_ms:
            return event
        times = {"not_before_ms": event.speech.not_before_ms, "expires_ms": event.speech.expires_ms}
        shifted = {name: at_ms + delegation.shift_ms for name, at_ms in times.items() if at_ms is not None}
        return event.model_copy(update={"speech": event.speech.model_copy(update=shifted)})

    def _add(self, delegation: Delegation) -> None:
        self.all[delegation.task_id] = delegation
        self._unfinished[delegation.task_id] = delegation

    def _conclude(self, delegation: Delegation) -> None:
        outcome = delegation.outcome()
        if outcome != delegation.promise:
            delegation.promise = outcome
            self._port.promise_nowait(delegation.task_id, outcome)
