"""Reads a runtime's inbox, through outages, and passes on what comes in. Knows streams; nothing of events."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.connection import TRANSIENT, Backoff, Clients
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command, entries_by_stream
from microturn.runtime.bus.settings import BusSettings

READ_COUNT = 100
"""Events taken from the inbox at once."""
READ_BLOCK_S = 1.0
"""How long a read waits for an event before it asks again."""

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
        self._last_ids = {keys.inbox(shard, runtime_id): "0-0" for shard in range(settings.shards)}
        self._shards = {keys.inbox(shard, runtime_id): shard for shard in range(settings.shards)}

    async def read(self) -> None:
        """Pass on what comes in until cancelled, through outages."""
        backoff = Backoff()
        while True:
            await self._room()
            try:
                await self._read_once()
            except (*TRANSIENT, TimeoutError) as error:
                self._health.fails("reading", error)
                await anyio.sleep(backoff.pause_s())
            except RedisError as error:  # the task boundary: whatever it is, it is shown and tried again
                _log.error("The inbox cannot be read (%s).", type(error).__name__)
                self._health.fails("reading", error)
                await anyio.sleep(backoff.pause_s())
            else:
                self._health.works("reading")
                backoff.reset()

    async def _read_once(self) -> None:
        with anyio.fail_after(READ_BLOCK_S + self._settings.command_timeout_s):
            reply = await command(
                self._clients.blocking,
                *("XREAD", "COUNT", READ_COUNT, "BLOCK", round(READ_BLOCK_S * 1000)),
                *("STREAMS", *self._last_ids, *self._last_ids.values()),
            )
        for stream, entries in entries_by_stream(reply):
            for entry_id, fields in entries:
                await self._take_in(self._shards[stream], entry_id, fields)
                self._last_ids[stream] = entry_id
