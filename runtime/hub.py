"""Shares one runtime's way to the background among its sessions.

A process has one inbox; the hub reads it in a task of its own and lays each event before the session whose task it
is, where the beat finds it without waiting.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from microturn.protocols import TERMINAL, DelegationEvent, SessionLedger
from microturn.runtime.adoption import Adoption
from microturn.runtime.bus.address import parse_address
from microturn.runtime.bus.keys import checked_name
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.runtime_port import DelegationPort as BusPort
from microturn.runtime.bus.runtime_port import open_delegation_port
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import BusEvent, Lagged, SessionMoved, UpdateRefused
from microturn.runtime.reopened import Reopened, with_words_heard
from microturn.runtime.session_port import SessionPort
from microturn.runtime.status_reporter import StatusReporter, open_status_reporter

_log = logging.getLogger(__name__)


class Hub:
    """Reads the bus and lays events before sessions; made by `open_hub`."""

    def __init__(self, bus: BusPort, reporter: StatusReporter | None = None) -> None:
        """`reporter` tells operators of the sessions that are followed by it; without one nobody is told."""
        self._bus = bus
        self.reporter = reporter or StatusReporter("")
        self._owners: dict[str, SessionPort] = {}
        self._ports: dict[str, SessionPort] = {}
        self._adoption = Adoption(bus, self._owners, self._ports)

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
        async with own_tasks() as tasks:
            tasks.start_soon(self._adoption.run, name="adoption of tasks")
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
        elif owner is None:
            if isinstance(event, DelegationEvent) and not self._adoption.take(event):
                self._bus.acknowledge_nowait(event.task_id, event.seq)  # its session has ended
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
