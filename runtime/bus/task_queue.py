"""The taking side of a worker: what is new in the queue, and what silent workers have left.

Knows streams, the group of workers and leases; nothing of what is done with a task once it is taken.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from redis.exceptions import RedisError, ResponseError

from microturn.background_agent.worker_bus import TaskEntry
from microturn.protocols import ContextPackage, ProtocolError
from microturn.runtime.bus._errors import BusNameError
from microturn.runtime.bus.connection import TRANSIENT, Backoff, Clients, refused
from microturn.runtime.bus.delivery import Delivery
from microturn.runtime.bus.keys import GROUP, LANES, Keys, Lane, checked_name
from microturn.runtime.bus.raw import command, entries_by_stream, fields_of
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

FORGET_AFTER_S = 3600.0
"""Silence after which a worker that left nothing behind is removed from the group."""

_log = logging.getLogger(__name__)

Reject = Callable[[Delivery, str], Awaitable[None]]
"""Gives up a delivery that cannot be read; the text is the task's id."""


class TaskQueue:
    """One worker's view of the queue."""

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
        self._streams = {
            keys.lane(shard, lane): (shard, lane) for lane in LANES for shard in range(settings.shards)
        }
        self._taken: deque[TaskEntry] = deque()
        self._taking = anyio.Lock()
        self._sweep_at_s = 0.0

    async def take(self) -> TaskEntry:
        """Wait for a task: a new one, or one whose worker has been silent for longer than the lease."""
        async with self._taking:
            backoff = Backoff()
            while not self._taken:
                try:
                    await self._look()
                except (*TRANSIENT, TimeoutError) as error:
                    # The others could not renew their leases either: let them do it before taking over from them.
                    self._sweep_at_s = time.monotonic() + self._settings.lease_s
                    _log.debug("The queue cannot be read (%s).", type(error).__name__)
                    await anyio.sleep(backoff.pause_s())
                except ResponseError as error:
                    if not str(error).startswith("NOGROUP"):
                        raise refused("read the queue", error) from error
                    await self.enter()
                else:
                    backoff.reset()
            return self._taken.popleft()

    async def enter(self) -> None:
        """Make the group where there is none; it begins with the oldest task."""
        for stream in self._streams:
            try:
                await command(self._clients.commands, "XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise refused("create the group of workers", error) from error

    async def leave(self) -> None:
        """Take this worker out of the group, unless it holds tasks."""
        await self._forget(self._worker_id)

    async def forget_silent(self) -> None:
        """Take those out of the group that are long gone and hold nothing."""
        await self._forget("")

    async def _look(self) -> None:
        """Take over one task if a look is due, else wait for a new one until the next look."""
        now_s = time.monotonic()
        if now_s >= self._sweep_at_s:
            # Between a twentieth and an eighth of the lease, so that many workers do not look at the same moment.
            self._sweep_at_s = now_s + self._settings.lease_s * random.uniform(0.05, 0.125)
            await self._sweep()
        elif not self._taken:
            await self._read(min(self._sweep_at_s - now_s, self._settings.lease_s / 4))

    async def _read(self, wait_s: float) -> None:
        block_ms, newest = max(1, round(wait_s * 1000)), [">"] * len(self._streams)
        with anyio.fail_after(wait_s + self._settings.command_timeout_s):
            reply = await command(
                self._clients.blocking,
                *("XREADGROUP", "GROUP", GROUP, self._worker_id, "COUNT", "1", "BLOCK", str(block_ms)),
                *("STREAMS", *self._streams, *newest),
            )
        for stream, entries in entries_by_stream(reply):
            for entry, fields in entries:
                await self._accept(*self._streams[stream], entry, fields)

    async def _sweep(self) -> None:
        for stream, (shard, lane) in self._streams.items():
            found = await self._scripts.run("sweep", [stream], self._worker_id, self._settings.lease_ms)
            if found:
                await self._accept(shard, lane, found[0], fields_of(found[1:]))

    async def _accept(self, shard: int, lane: Lane, entry: str, fields: dict[str, str]) -> None:
        """Keep a delivery for `take`, or give it up if this release cannot read it."""
        delivery = Delivery(shard, lane, entry, fields.get("rt", "unknown"))
        try:
            checked_name("runtime id", delivery.runtime_id)
            package = ContextPackage.decode(fields.get("package", ""))
            checked_name("task id", package.task_id)
        except (ProtocolError, BusNameError) as error:
            _log.error("A task was given up: %s", error)
            await self._reject(delivery, fields.get("task", "unknown"))
        else:
            self._taken.append(TaskEntry(str(delivery), package))

    async def _forget(self, worker_id: str) -> None:
        with suppress(RedisError):
            for stream in self._streams:
                await self._scripts.run("leave", [stream], worker_id, round(FORGET_AFTER_S * 1000))
