"""A worker's bell: rung when a running task has news for its worker, such as a cancel or an answer.

A worker hears of news with its next sign of life, which may be half a second away. A ring says for which task it should
look at once. It promises nothing: one that is lost costs that half second. All workers of a shard share one bell, since
rings are seldom. Knows nothing of what the news is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import RedisError

from microturn.runtime.bus.connection import Clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.raw import read_streams
from microturn.runtime.bus.settings import BusSettings


class Bell:
    """Listens while its worker has running tasks. `start` is to be called once."""

    def __init__(
        self, clients: Clients, keys: Keys, settings: BusSettings, *, on_ring: Callable[[str], None]
    ) -> None:
        """`on_ring` is called with the id of the task, whoever runs it."""
        self._clients = clients
        self._settings = settings
        self._on_ring = on_ring
        self._last_ids = {keys.bell(shard): "$" for shard in range(settings.shards)}
        self._shards = {shard: keys.bell(shard) for shard in range(settings.shards)}
        self._running: deque[str] = deque()
        """The bell of each task that runs, once for each."""
        self._has_more = anyio.Event()

    def start(self, tasks: TaskGroup) -> None:
        """Start to listen in the owner's task group: once for a server, once for each shard of a cluster."""
        routes: dict[str, list[str]] = {}
        for stream in self._last_ids:
            routes.setdefault(self._clients.blocking.route(stream), []).append(stream)
        for streams in routes.values():
            tasks.start_soon(self._listen, streams, name="bus bell")

    def begin(self, shard: int) -> None:
        """Take in that one more task of a shard runs."""
        self._running.append(self._shards[shard])
        has_more, self._has_more = self._has_more, anyio.Event()
        has_more.set()

    def end(self, shard: int) -> None:
        """Take in that one less does."""
        self._running.remove(self._shards[shard])

    async def _listen(self, streams: list[str]) -> None:
        backoff = Backoff()
        while True:
            while not any(stream in self._running for stream in streams):
                await self._has_more.wait()
            try:
                await self._listen_once(streams)
            except (RedisError, OSError):  # the beats tell of an outage, and go on telling what is new
                self._last_ids |= dict.fromkeys(streams, "$")
                await anyio.sleep(backoff.pause_s())
            else:
                backoff.reset()

    async def _listen_once(self, streams: list[str]) -> None:
        last_ids = {stream: self._last_ids[stream] for stream in streams}
        patience_s = self._settings.command_timeout_s
        for stream, entries in await read_streams(self._clients.blocking, last_ids, patience_s=patience_s):
            for entry_id, fields in entries:
                self._last_ids[stream] = entry_id
                self._on_ring(fields.get("task", ""))
