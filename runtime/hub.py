"""Shares one runtime's way to the background among its sessions.

A process has one inbox; the hub reads it in a task of its own and lays each event before the session whose task it
is, where the beat finds it without waiting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio

from microturn.protocols import (
    TERMINAL,
    ContextPackage,
    DelegationEvent,
    PromiseState,
    Receipt,
    Reference,
    SessionLedger,
)
from microturn.runtime.bus.address import parse_address
from microturn.runtime.bus.keys import checked_name
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.runtime_port import DelegationPort as BusPort
from microturn.runtime.bus.runtime_port import open_delegation_port
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import BusEvent, Lagged, SessionMoved, UpdateRefused
from microturn.runtime.delegations import PortState
from microturn.runtime.reopened import Reopened, with_words_heard
from microturn.runtime.status_reporter import StatusReporter, open_status_reporter

_log = logging.getLogger(__name__)


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


class Hub:
    """Reads the bus and lays events before sessions; made by `open_hub`."""

    def __init__(self, bus: BusPort, reporter: StatusReporter | None = None) -> None:
        """`reporter` tells operators of the sessions that are followed by it; without one nobody is told."""
        self._bus = bus
        self.reporter = reporter or StatusReporter("")
        self._owners: dict[str, SessionPort] = {}
        self._ports: dict[str, SessionPort] = {}

    @property
    def workers(self) -> int | None:
        """Workers alive at the last count; None before the first."""
        return self._bus.health.workers

    @property
    def is_busy(self) -> bool:
        """Whether any task has been handed over and not ended."""
        return any(port.is_awaiting for port in self._ports.values())

    async def until_worker(self, within_s: float = 2.0) -> None:
        """Wait until a worker is counted, or for so long: one that has just started is seen with the next count."""
        with anyio.move_on_after(within_s):
            while not self.workers:  # noqa: ASYNC110  # because the port counts every half second and tells nobody
                await anyio.sleep(0.02)

    def port(self, session_id: str) -> SessionPort:
        """A port for one more session. It takes the place of another one of the same session here.

        Raises:
            BusNameError: the id cannot be part of a key.
        """
        checked_name("session id", session_id)
        former = self._ports.get(session_id)
        if former is not None:
            former.move()
        port = SessionPort(session_id, self._bus, self._owners, self._forget)
        self._ports[session_id] = port
        return port

    async def reopen(
        self, session_id: str, heard: Mapping[str, int] | None = None, *, now_ms: float = 0.0
    ) -> tuple[SessionPort, Reopened]:
        """Take over a session whose process died or lost it; returns what `Session` needs to go on with it.

        Call it right before the session is made: its time goes on from this moment.

        Args:
            session_id: the session.
            heard: what a client that outlived the process has played: item ids of utterances, and how many words of
                each. It is merged with what is known, so that nothing is said twice.
            now_ms: session time of the host on which it goes on; 0 where its beat has not begun.

        Raises:
            UnknownSessionError: no such session is remembered.
            SessionTakenError: yet another process has taken it over meanwhile.
            BusUnreachableError: the server does not answer.
            BusNameError: the id cannot be part of a key.
        """
        ledger = with_words_heard(await self._bus.reopen(session_id), heard or {})
        port = self.port(session_id)
        for promise in ledger.promises:
            port.own(promise.task_id, is_running=promise.task_state not in TERMINAL)
        return port, Reopened(ledger, now_ms)

    async def ledger(self, session_id: str) -> SessionLedger:
        """Read what a session was promised, and change nothing.

        Raises:
            UnknownSessionError: no such session is remembered.
            BusUnreachableError: the server does not answer.
        """
        return await self._bus.ledger(session_id)

    async def run(self) -> None:
        """Read events until the bus is closed."""
        async for event in self._bus.events():
            self._lay(event)

    def _forget(self, port: SessionPort) -> None:
        if self._ports.get(port.session_id) is port:
            del self._ports[port.session_id]

    def _lay(self, event: BusEvent) -> None:
        """Lay an event before the session that it is for."""
        if isinstance(event, SessionMoved):
            port = self._ports.get(event.session_id)
            if port is not None:
                port.move()
            return
        owner = self._owners.get(event.task_id)
        if isinstance(event, Lagged):
            _log.error(
                "Task %s lost the events %d to %d.", event.task_id, event.first_missing, event.next_seq - 1
            )
        elif owner is None:  # its session has ended
            if isinstance(event, DelegationEvent):
                self._bus.acknowledge_nowait(event.task_id, event.seq)
        elif isinstance(event, UpdateRefused):
            owner.refuse(event.task_id)
        else:
            owner.lay(event)


@asynccontextmanager
async def open_hub(settings: BusSettings) -> AsyncIterator[Hub]:
    """Open the way to the background until the end of the block.

    Raises:
        BusUnreachableError: no server answers.
        UnfitServerError: the server would lose tasks.
    """
    async with (
        open_delegation_port(settings) as bus,
        open_status_reporter(settings, bus.runtime_id) as reporter,
        own_tasks() as tasks,
    ):
        hub = Hub(bus, reporter)
        tasks.start_soon(hub.run, name="bus events")
        yield hub


def settings_of(url: str, *, tenant: str = "default", shards: int = 1) -> BusSettings:
    """Settings for the bus at an address; every process of a bus needs the same tenant and number of shards.

    Raises:
        BusAddressError: it is no address of a server, a cluster or a service.
        BusNameError: the tenant cannot be part of a key.
    """
    parse_address(url)
    return BusSettings(url, tenant=checked_name("tenant", tenant), shards=shards)
