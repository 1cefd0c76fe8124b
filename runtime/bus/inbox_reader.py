"""Reads a runtime's inbox, through outages, and passes on what comes in. Knows streams; nothing of events."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.connection import Clients
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.raw import read_streams
from microturn.runtime.bus.server_errors import TRANSIENT
from microturn.runtime.bus.settings import BusSettings

READ_COUNT = 100
"""Events taken from the inbox at once."""

TakeIn = Callable[[int, str, dict[str, str]], Awaitable[None]]
"""Takes in one entry: its shard, its id in the inbox, and its fields."""

_log = logging.getLogger(__name__)


class InboxReader:
    """The reader of one inbox, from its beginning. `read` is to be started in the owner's task group."""

    def __init__(
        self,
        clients: Clients,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        health: HealthMonitor,
        room: Callable[[], Awaitable[None]],
        take_in: TakeIn,
    ) -> None:
        """`room` is awaited before each read, `take_in` for each entry; what it raises is tried again."""
        self._clients = clients
        self._settings = settings
        self._health = health
        self._room = room
        self._take_in = take_in
        self._shards = {keys.inbox(shard, runtime_id): shard for shard in range(settings.shards)}
        self._last_ids = dict.fromkeys(self._shards, "0-0")
        self._failing: set[str] = set()

    async def read(self) -> None:
        """Pass on what comes in until cancelled, through outages: one read for a server, one for each shard of a
        cluster, so that those that can be reached are read on."""
        routes: dict[str, list[str]] = {}
        for stream in self._shards:
            routes.setdefault(self._clients.blocking.route(stream), []).append(stream)
        async with anyio.create_task_group() as tasks:
            for name, streams in routes.items():
                tasks.start_soon(self._read_route, name, streams)

    async def _read_route(self, name: str, streams: list[str]) -> None:
        backoff = Backoff()
        while True:
            await self._room()
            try:
                await self._read_once(streams)
            except (*TRANSIENT, TimeoutError) as error:
                self._fails(name, error)
                await anyio.sleep(backoff.pause_s())
            except RedisError as error:  # the task boundary: whatever it is, it is shown and tried again
                _log.error("The inbox cannot be read (%s).", type(error).__name__)
                self._fails(name, error)
                await anyio.sleep(backoff.pause_s())
            else:
                self._works(name)
                backoff.reset()

    async def _read_once(self, streams: list[str]) -> None:
        last_ids = {stream: self._last_ids[stream] for stream in streams}
        patience_s = self._settings.command_timeout_s
        for stream, entries in await read_streams(
            self._clients.blocking, last_ids, patience_s=patience_s, count=READ_COUNT
        ):
            for entry_id, fields in entries:
                await self._take_in(self._shards[stream], entry_id, fields)
                self._last_ids[stream] = entry_id

    def _fails(self, route: str, error: Exception) -> None:
        self._failing.add(route)
        self._health.fails("reading", error)

    def _works(self, route: str) -> None:
        self._failing.discard(route)
        if not self._failing:
            self._health.works("reading")
