"""Shares one runtime's way to the background among its sessions.

A process has one inbox; the hub reads it in a task of its own and lays each event before the session whose task it
is, where the beat finds it without waiting.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio

from microturn.protocols import ContextPackage, DelegationEvent, UserError
from microturn.runtime.bus.own_tasks import own_tasks
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
        """Events that the beat has not taken. Bounded by the workers, who wait while too many are unacknowledged."""

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

    def close(self) -> None:
        """End the session's part: its open tasks are cancelled, and what still comes of them goes to nobody."""
        mine = [task_id for task_id, owner in self._owners.items() if owner is self]
        for task_id in mine:
            del self._owners[task_id]
            self._bus.cancel_nowait(task_id, "the session has ended")
        self.arrived.clear()

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

    async def until_worker(self, within_s: float = 2.0) -> None:
        """Wait until a worker is counted, or for so long: one that has just started is seen with the next count."""
        with anyio.move_on_after(within_s):
            while not self.workers:  # noqa: ASYNC110  # because the port counts every half second and tells nobody
                await anyio.sleep(0.02)

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
            if owner is None:  # its session has ended
                self._bus.acknowledge_nowait(event.task_id, event.seq)
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
    async with open_delegation_port(settings) as bus, own_tasks() as tasks:
        hub = Hub(bus)
        tasks.start_soon(hub.run, name="bus events")
        yield hub


def settings_of(url: str) -> BusSettings:
    """Settings for the server at an address.

    Raises:
        UserError: it is no address of a Redis server.
    """
    parts = urlsplit(url)
    try:
        is_address = parts.scheme == "unix" or (parts.scheme in ("redis", "rediss") and parts.port != 0)
    except ValueError:  # the port is no number, or none that there is
        is_address = False
    if not is_address:
        raise UserError(
            f"cannot use {url.rpartition('@')[2]!r} as the address of a Redis server: expected "
            "redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH; correct it, or leave it out to use the built-in "
            "server"
        )
    return BusSettings(url)
