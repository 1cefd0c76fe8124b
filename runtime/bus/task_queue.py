"""The taking side of a worker: what is new in the queue, and what silent workers have left.

Knows streams, the group of workers and leases; nothing of what is done with a task once it is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from microturn.background_agent.worker_bus import TaskEntry
from microturn.protocols import ContextPackage, ProtocolError
from microturn.runtime.bus._errors import BusNameError
from microturn.runtime.bus.connection import Clients
from microturn.runtime.bus.delivery import Delivery
from microturn.runtime.bus.keys import LANES, Keys, Lane, checked_name
from microturn.runtime.bus.lane_taker import LaneTaker
from microturn.runtime.bus.queue_route import Found, QueueRoute
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

FORGET_AFTER_S = 3600.0
"""Silence after which a worker that left nothing behind is removed from the group."""

_log = logging.getLogger(__name__)

Reject = Callable[[Delivery, str], Awaitable[None]]
"""Gives up a delivery that cannot be read; the text is the task's id."""


class TaskQueue:
    """One worker's view of the queue. `start` is to be called before anything is taken."""

    def __init__(
        self,
        clients: Clients,
        scripts: Scripts,
        settings: BusSettings,
        keys: Keys,
        *,
        worker_id: str,
        reject: Reject,
    ) -> None:
        self._clients = clients
        self._scripts = scripts
        self._settings = settings
        self._worker_id = worker_id
        self._reject = reject
        self._places: dict[str, tuple[int, Lane]] = {
            keys.lane(shard, lane): (shard, lane) for lane in LANES for shard in range(settings.shards)
        }
        self._all = self._taker(LANES)
        self._urgent = self._taker(("urgent",))

    def start(self, tasks: TaskGroup) -> None:
        """Start the readers in the owner's task group."""
        self._all.start(tasks)
        self._urgent.start(tasks)

    async def take(self, *, urgent_only: bool = False) -> TaskEntry:
        """Wait for a task: a new one, or one whose worker has been silent for longer than the lease."""
        taker = self._urgent if urgent_only else self._all
        while True:
            found = await taker.take()
            shard, lane = self._places[found.stream]
            delivery = Delivery(shard, lane, found.entry, found.fields.get("rt", "unknown"))
            if (entry := await self._read(delivery, found.fields)) is not None:
                return entry

    async def enter(self) -> None:
        """Make the groups where there are none; each begins with the oldest task."""
        for stream in self._places:
            await self._scripts.insist("join", [stream])

    async def leave(self) -> None:
        """Give back what this worker holds, and take it out of the group."""
        with suppress(RedisError):
            for stream in self._places:
                await self._release(stream, "")
        await self._forget(self._worker_id)

    async def forget_silent(self) -> None:
        """Take those out of the group that are long gone and hold nothing."""
        await self._forget("")

    def _taker(self, lanes: tuple[Lane, ...]) -> LaneTaker:
        by_route: dict[str, dict[Lane, list[str]]] = {}
        for stream, (_, lane) in self._places.items():
            if lane in lanes:
                route = by_route.setdefault(self._clients.blocking.route(stream), {})
                route.setdefault(lane, []).append(stream)
        return LaneTaker([self._route(route.values()) for route in by_route.values()], self._release_quietly)

    def _route(self, lanes: Iterable[list[str]]) -> QueueRoute:
        return QueueRoute(
            self._clients,
            self._scripts,
            self._settings,
            lanes,
            worker_id=self._worker_id,
            enter=self.enter,
        )

    async def _read(self, delivery: Delivery, fields: dict[str, str]) -> TaskEntry | None:
        """The delivery for the caller; None, and it is given up, if this release cannot read it."""
        try:
            checked_name("runtime id", delivery.runtime_id)
            package = ContextPackage.decode(fields.get("package", ""))
            checked_name("task id", package.task_id)
        except (ProtocolError, BusNameError) as error:
            _log.error("A task was given up: %s", error)
            await self._reject(delivery, fields.get("task", "unknown"))
            return None
        return TaskEntry(str(delivery), package)

    async def _release_quietly(self, found: Found) -> None:
        with suppress(RedisError):  # it comes again after the lease
            await self._release(found.stream, found.entry)

    async def _release(self, stream: str, entry: str) -> None:
        await self._scripts.run("release", [stream], self._worker_id, self._settings.lease_ms, entry)

    async def _forget(self, worker_id: str) -> None:
        with suppress(RedisError):
            for stream in self._places:
                await self._scripts.run("leave", [stream], worker_id, round(FORGET_AFTER_S * 1000))
