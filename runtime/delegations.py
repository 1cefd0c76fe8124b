"""A session's delegations: what was handed over, how it stands, and the port through which it goes.

The beat talks to the background only through a `DelegationPort`, none of whose methods wait. The bus in
`runtime/bus` is one; `runtime/testing` has another that needs no server.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias
from uuid import uuid4

from microturn.protocols import (
    TERMINAL,
    ContextPackage,
    Delegate,
    DelegationEvent,
    RunningDelegation,
    Speech,
    TurnRecord,
)

PortState: TypeAlias = Literal["ok", "no_worker", "unreachable"]
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


_UNTOUCHED = frozenset({"submitted", "accepted"})
"""States before a worker has shown anything of a task; the server itself accepts it, whether anyone works or not."""


class DelegationPort(Protocol):
    """The runtime's side of the way to the background. Nothing here waits; all of it is called on the beat."""

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a package over; false when too many wait already, and nothing was taken."""

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Ask for a task to be cancelled."""

    def update_nowait(self, task_id: str, text: str) -> None:
        """Tell a running task what has changed."""

    def poll(self) -> Sequence[DelegationEvent]:
        """Return the events that arrived since the last call, each once and in order per task."""

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Say that an event has been woven or settled, so that it need not be delivered again."""

    @property
    def state(self) -> PortState:
        """Whether the background can be reached and somebody works there, as last known."""


@dataclass(slots=True)
class Delegation:
    """One task of this session."""

    package: ContextPackage
    submitted_ms: float
    state: str = "submitted"
    told: bool = False
    """Whether the user was told that it waits."""
    unwanted: bool = False
    """Whether it was cancelled from here: nothing of it is said any more, whatever still arrives."""
    unsettled: deque[int] = field(default_factory=deque)
    """Numbers of the events that came and are not acknowledged, in order."""
    settled: set[int] = field(default_factory=set)
    """Those of them that are settled and wait for an earlier one."""

    @property
    def is_open(self) -> bool:
        """Whether more may come of it."""
        return self.state not in TERMINAL and self.state != "refused"


class Delegations:
    """The delegations of one session. Owned by the beat."""

    def __init__(self, session_id: str, port: DelegationPort, deadline_s: float = 120.0) -> None:
        self._session_id = session_id
        self._port = port
        self._deadline_s = deadline_s
        self._notices = 0
        self.all: dict[str, Delegation] = {}

    @property
    def open_ids(self) -> tuple[str, ...]:
        """Tasks of which more may come, oldest first."""
        return tuple(task_id for task_id, task in self.all.items() if task.is_open)

    def submit(
        self, action: Delegate, history: tuple[TurnRecord, ...], now_ms: float, trace: dict[str, str]
    ) -> Delegation:
        """Hand a task over with all that is known. Its `state` is `refused` when the queue is full."""
        task_id = uuid4().hex
        package = ContextPackage(
            task_id=task_id,
            session_id=self._session_id,
            idempotency_key=f"{self._session_id}:{action.said_start_ms}:{action.said_end_ms}:{len(self.all)}",
            intent=action.intent,
            agent=action.agent,
            said_start_ms=action.said_start_ms,
            said_end_ms=action.said_end_ms,
            local_time=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            deadline_s=self._deadline_s,
            history=history,
            running=tuple(
                RunningDelegation(task_id=i, intent=self.all[i].package.intent, state=self.all[i].state)
                for i in self.open_ids
            ),
            trace=trace,
        ).fitted()
        delegation = Delegation(package, now_ms)
        if not self._port.submit_nowait(package):
            delegation.state = "refused"
        self.all[task_id] = delegation
        return delegation

    def cancel(self, task_id: str | None, reason: str) -> None:
        """Ask for one task, or all open ones, to be cancelled."""
        for each in self.open_ids if task_id is None else (task_id,):
            if each in self.all:
                self.all[each].unwanted = True
            self._port.cancel_nowait(each, reason)

    def update(self, task_id: str, text: str) -> None:
        """Tell a running task what has changed."""
        self._port.update_nowait(task_id, text)

    def note(self, event: DelegationEvent) -> DelegationEvent:
        """Keep an event's state, and return the event with words for the user where it ends badly without any.

        An event of a task that is not ours changes nothing.
        """
        delegation = self.all.get(event.task_id)
        if delegation is None:
            return event
        delegation.unsettled.append(event.seq)
        if delegation.is_open:
            delegation.state = event.kind
        if delegation.unwanted:
            return event.model_copy(update={"speech": None})
        if event.speech is None and event.kind in FAILED_TEXTS:
            text = REFUSED_TEXT if event.detail.get("reason") == "queue_full" else FAILED_TEXTS[event.kind]
            return event.model_copy(update={"speech": Speech(text=text, mode="pause")})
        return event

    def settle(self, task_id: str, seq: int) -> None:
        """Acknowledge an event, as soon as all earlier ones of its task are settled too.

        An acknowledged event is not delivered again after a crash, so a number is only passed on when nothing
        before it is still to be said.
        """
        delegation = self.all.get(task_id)
        if delegation is None:
            return
        delegation.settled.add(seq)
        newest = None
        while delegation.unsettled and delegation.unsettled[0] in delegation.settled:
            newest = delegation.unsettled.popleft()
            delegation.settled.discard(newest)
        if newest is not None:
            self._port.acknowledge_nowait(task_id, newest)

    def notices(self, now_ms: float) -> list[DelegationEvent]:
        """Return what the user should be told of tasks that nobody has taken up in time, each once."""
        texts = []
        for delegation in self.all.values():
            if delegation.told:
                continue
            if delegation.state == "refused":
                texts.append(REFUSED_TEXT)
            elif (
                delegation.state in _UNTOUCHED
                and now_ms - delegation.submitted_ms >= TOLD_AFTER_MS
                and self._port.state != "ok"
            ):
                texts.append(NO_WORKER_TEXT if self._port.state == "no_worker" else UNREACHABLE_TEXT)
            else:
                continue
            delegation.told = True
        return [self._notice(text, now_ms) for text in dict.fromkeys(texts)]

    def _notice(self, text: str, now_ms: float) -> DelegationEvent:
        self._notices += 1
        speech = Speech(text=text, mode="pause", priority=1, expires_ms=round(now_ms) + 8000)
        return DelegationEvent(
            task_id=RUNTIME_TASK, attempt=0, seq=self._notices, kind="progress", speech=speech, text=text
        )
