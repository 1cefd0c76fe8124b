"""One session's view of the bus, which it shares with the other sessions of its process.

The hub lays here what comes for the session, and the beat takes it without waiting. Knows nothing of what is said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from microturn.protocols import ContextPackage, DelegationEvent, Promise, PromiseState, Receipt, Reference
from microturn.runtime.bus.runtime_port import DelegationPort as BusPort
from microturn.runtime.delegations import PortState


class SessionPort:
    """One session's view of the bus; implements `delegations.DelegationPort`. Made by a `Hub`.

    Once another process has taken the session over it lets nothing through in either direction.
    """

    def __init__(
        self,
        session_id: str,
        bus: BusPort,
        owners: dict[str, SessionPort],
        on_close: Callable[[SessionPort], None],
    ) -> None:
        self.session_id = session_id
        self._bus = bus
        self._owners = owners
        self._on_close = on_close
        self._running: set[str] = set()
        self._refused: deque[str] = deque()
        self._adopted: deque[Promise] = deque()
        self._arrived: deque[DelegationEvent] = deque()
        """Events that the beat has not taken. Bounded by the workers, who wait while too many are unacknowledged."""
        self._has_moved = False
        self._is_closed = False

    @property
    def is_awaiting(self) -> bool:
        """Whether any of its tasks has not ended."""
        return bool(self._running)

    def enter_nowait(self, session_ms: float) -> bool:
        """Say that the session is here, and its time now; false when too much waits already."""
        return self._has_moved or self._bus.enter_nowait(self.session_id, session_ms)

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a package over; false when too many wait already."""
        if self._has_moved:
            return False
        self.own(package.task_id)
        if self._bus.submit_nowait(package):
            return True
        self._running.discard(package.task_id)
        del self._owners[package.task_id]
        return False

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Ask for a task to be cancelled."""
        if not self._has_moved:
            self._bus.cancel_nowait(task_id, reason)

    def update_nowait(self, task_id: str, text: str) -> None:
        """Tell a running task what has changed; one that cannot be told now is among the `refused_updates`."""
        if not self._has_moved and not self._bus.update_nowait(task_id, text):
            self._refused.append(task_id)

    def answer_nowait(self, task_id: str, seq: int, text: str) -> None:
        """Pass on what the user answered to a question."""
        if not self._has_moved:
            self._bus.answer_nowait(task_id, seq, text)

    def refused_updates(self) -> Sequence[str]:
        """Return the tasks that an update did not reach, since the last call."""
        refused = tuple(self._refused)
        self._refused.clear()
        return refused

    def adopted(self) -> Sequence[Promise]:
        """Return the tasks of the session that somebody else has handed over, since the last call."""
        adopted = tuple(self._adopted)
        self._adopted.clear()
        return adopted

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Say that a task's events up to `seq` are woven or settled."""
        if not self._has_moved:
            self._bus.acknowledge_nowait(task_id, seq)

    def receipt_nowait(self, receipt: Receipt) -> None:
        """Store what became of an event's words."""
        if not self._has_moved:
            self._bus.receipt_nowait(self.session_id, receipt)

    def promise_nowait(self, task_id: str, state: PromiseState) -> None:
        """Store what became of the promise of a task."""
        if not self._has_moved:
            self._bus.promise_nowait(self.session_id, task_id, state)

    def keep_nowait(self, data: bytes, media_type: str, time_ms: int) -> Reference | None:
        """Keep bytes for tasks that are handed over; None where they are too large, or the session is elsewhere."""
        if self._has_moved:
            return None
        return self._bus.keep_nowait(self.session_id, data, media_type, time_ms)

    def poll(self) -> Sequence[DelegationEvent]:
        """Return what arrived since the last call."""
        events = tuple(self._arrived)
        self._arrived.clear()
        return events

    def close(self) -> None:
        """End the session: its open tasks are cancelled, and what still comes of them goes to nobody."""
        if self._is_closed:
            return
        self._is_closed = True
        self._forget()
        self._on_close(self)
        if not self._has_moved:
            self._bus.leave_nowait(self.session_id)

    @property
    def state(self) -> PortState:
        """Whether the background can be reached and somebody works there, and whether the session is still here."""
        if self._has_moved:
            return "moved"
        health = self._bus.health
        if health.state != "ok":
            return "unreachable"
        return "no_worker" if health.workers == 0 else "ok"

    def own(self, task_id: str, *, is_running: bool = True) -> None:
        """Have a task's events laid here. Called by the hub, for what is taken over."""
        self._owners[task_id] = self
        if is_running:
            self._running.add(task_id)

    def adopt(self, promise: Promise) -> None:
        """Take in a task that somebody else has handed over for the session. Called before its events are laid here."""
        self.own(promise.task_id)
        self._adopted.append(promise)

    def lay(self, event: DelegationEvent) -> None:
        """Take in an event of one of its tasks. Called by the hub."""
        self._arrived.append(event)
        if event.is_terminal:
            self._running.discard(event.task_id)

    def refuse(self, task_id: str) -> None:
        """Take in that an update did not reach its task. Called by the hub."""
        self._refused.append(task_id)

    def move(self) -> None:
        """Take in that another process, or another port of this one, has the session now. Called by the hub."""
        self._has_moved = True
        self._forget()

    def _forget(self) -> None:
        for task_id in [task_id for task_id, owner in self._owners.items() if owner is self]:
            del self._owners[task_id]
        self._running.clear()
        self._arrived.clear()
        self._refused.clear()
        self._adopted.clear()
