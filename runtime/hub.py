"""Shares one runtime's way to the background among its sessions.

A process has one inbox; the hub reads it in a task of its own and lays each event before the session whose task it
is, where the beat finds it without waiting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus.runtime_port import DelegationPort as BusPort
from microturn.runtime.bus.runtime_port import open_delegation_port
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.tracks import Lagged
from microturn.runtime.delegations import PortState

_log = logging.getLogger(__name__)


class SessionPort:
    """One session's view of the bus; implements `delegations.DelegationPort`."""

    def __init__(self, bus: BusPort, owners: dict[str, SessionPort]) -> None:
        self._bus = bus
        self._owners = owners
        self.arrived: deque[DelegationEvent] = deque()
        """Events that the beat has not taken. Bounded by the bus, which stops reading while its buffer is full."""

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Hand a package over; false when too many wait already."""
        self._owners[package.task_id] = self
        if self._bus.submit_nowait(package):
            return True
        del self._owners[package.task_id]
        return False

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Ask for a task to be cancelled."""
        self._bus.cancel_nowait(task_id, reason)

    def update_nowait(self, task_id: str, text: str) -> None:
        """Tell a running task what has changed."""
        self._bus.update_nowait(task_id, text)

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Say that a task's events up to `seq` are woven or settled."""
        self._bus.acknowledge_nowait(task_id, seq)

    def poll(self) -> Sequence[DelegationEvent]:
        """Return what arrived since the last call."""
        events = tuple(self.arrived)
        self.arrived.clear()
        return events

    @property
    def state(self) -> PortState:
        """Whether the background can be reached and somebody works there."""
        health = self._bus.health
        if health.state != "ok":
            return "unreachable"
        return "no_worker" if health.workers == 0 else "ok"


class Hub:
    """Reads the bus and lays events before sessions; made by `open_hub`."""

    def __init__(self, bus: BusPort) -> None:
        self._bus = bus
        self._owners: dict[str, SessionPort] = {}

    @property
    def workers(self) -> int | None:
        """Workers alive at the last count; None before the first."""
        return self._bus.health.workers

    @property
    def is_busy(self) -> bool:
        """Whether any task has been handed over and not ended."""
        return bool(self._owners)

    def port(self) -> SessionPort:
        """A port for one more session."""
        return SessionPort(self._bus, self._owners)

    async def run(self) -> None:
        """Read events until the bus is closed."""
        async for event in self._bus.events():
            if isinstance(event, Lagged):
                _log.error(
                    "Task %s lost the events %d to %d.",
                    event.task_id,
                    event.first_missing,
                    event.next_seq - 1,
                )
                continue
            owner = self._owners.get(event.task_id)
            if owner is None:
                _log.warning(
                    "An event of a task that no session here has handed over was left: %s", event.task_id
                )
                continue
            owner.arrived.append(event)
            if event.is_terminal:
                del self._owners[event.task_id]


@asynccontextmanager
async def open_hub(settings: BusSettings) -> AsyncIterator[Hub]:
    """Open the way to the background until the end of the block.

    Raises:
        BusUnreachableError: no server answers.
        UnfitServerError: the server would lose tasks.
    """
    async with open_delegation_port(settings) as bus, anyio.create_task_group() as tasks:
        hub = Hub(bus)
        tasks.start_soon(hub.run, name="bus events")
        yield hub
        tasks.cancel_scope.cancel()
