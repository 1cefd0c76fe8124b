"""Gives a live session the tasks that somebody else has handed over for it, such as an operator who tries one again.

Such a task is known by its first event, of which no session here has submitted the task. What it is about stands on the
server; until that is read its events wait here. Knows nothing of what is said of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from microturn.protocols import DelegationEvent, Promise
from microturn.runtime.bus._errors import BusReplyError, BusUnreachableError
from microturn.runtime.bus.runtime_port import DelegationPort
from microturn.runtime.session_port import SessionPort

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Found:
    session_id: str
    events: list[DelegationEvent]
    """Bounded as all events are: workers wait while too many are not acknowledged."""


class Adoption:
    """The tasks of one process that are about to be adopted. `run` is to be started in the owner's task group."""

    def __init__(
        self, bus: DelegationPort, owners: Mapping[str, SessionPort], ports: Mapping[str, SessionPort]
    ) -> None:
        """`owners` has the sessions by their tasks, `ports` by their ids; both are kept up to date by the hub."""
        self._bus = bus
        self._owners = owners
        self._ports = ports
        self._found: dict[str, _Found] = {}
        self._has_some = anyio.Event()

    def take(self, event: DelegationEvent) -> bool:
        """Keep an event of a task that no session has, if it is one to adopt; False where nobody wants it."""
        if event.task_id in self._found:
            self._found[event.task_id].events.append(event)
            return True
        session_id = self._bus.session_of(event.task_id) if event.kind == "accepted" else None
        if session_id is None or session_id not in self._ports:
            return False
        self._found[event.task_id] = _Found(session_id, [event])
        self._has_some.set()
        return True

    async def run(self) -> None:
        """Adopt what is found until cancelled, through outages."""
        while True:
            while not self._found:
                self._has_some = anyio.Event()
                await self._has_some.wait()
            task_id, found = next(iter(self._found.items()))
            promise = await self._read(found.session_id, task_id)
            del self._found[task_id]
            self._adopt(found, promise)

    async def _read(self, session_id: str, task_id: str) -> Promise | None:
        while session_id in self._ports:
            try:
                return await self._bus.promise(session_id, task_id)
            except BusUnreachableError:
                continue
            except BusReplyError as error:
                _log.error("Task %s is not told of before its session is reopened: %s", task_id, error)
                break
        return None

    def _adopt(self, found: _Found, promise: Promise | None) -> None:
        newest, port = found.events[-1], self._ports.get(found.session_id)
        if newest.task_id in self._owners:
            return  # Its session was reopened here meanwhile, and found the task and these events in its ledger.
        if promise is None or promise.state != "open" or port is None or port.state == "moved":
            self._bus.acknowledge_nowait(newest.task_id, newest.seq)
            return
        port.adopt(promise)
        for event in found.events:
            port.lay(event)
