"""What waits to be stored, each thing once and always its newest value: acknowledgements, receipts, promises.

Never refuses and never waits; a key that is put again before it was stored takes no more room. Knows when to store and
when to try again; nothing of what is stored.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.server_errors import is_spoilt

AT_ONCE = 64
"""Keys that are stored at the same time; the calls share their way to the server."""

_log = logging.getLogger(__name__)
Key = TypeVar("Key", bound=Hashable)


class PendingWrites(Generic[Key]):
    """The keys that wait. `run` is to be started in the owner's task group."""

    def __init__(
        self, store: Callable[[Key], Awaitable[bool]], *, health: HealthMonitor, gather_s: float = 0.0
    ) -> None:
        """`store` stores a key's value, whatever it then is, and returns whether that was all of it.

        `gather_s` is how long what is put waits for more of it, unless somebody waits until it is stored.
        """
        self._store = store
        self._health = health
        self._gather_s = gather_s
        self._is_awaited = anyio.Event()
        self._waiting: dict[Key, int] = {}
        """How often each was put, so that one that was put again while it was stored is stored again."""
        self._has_some = anyio.Event()
        self._settled = anyio.Event()

    def put(self, key: Key) -> None:
        """Note that a key has a new value. Never waits."""
        self._waiting[key] = self._waiting.get(key, 0) + 1
        self._has_some.set()

    async def all_stored(self, concerns: Callable[[Key], bool] = lambda _: True) -> None:
        """Wait until nothing waits of what `concerns` the caller."""
        while any(concerns(key) for key in self._waiting):
            self._is_awaited.set()
            await self._settled.wait()

    async def run(self) -> None:
        """Store until cancelled, through outages."""
        backoff = Backoff()
        while True:
            while not self._waiting:
                self._has_some = anyio.Event()
                await self._has_some.wait()
            if self._gather_s:
                await self._gather()
            failed: list[RedisError] = []
            async with anyio.create_task_group() as tasks:
                for key in list(self._waiting)[:AT_ONCE]:
                    tasks.start_soon(self._try, key, failed)
            settled, self._settled = self._settled, anyio.Event()
            settled.set()
            if failed:
                self._health.fails("storing", failed[0])
                await anyio.sleep(backoff.pause_s())
            else:
                self._health.works("storing")
                backoff.reset()

    async def _gather(self) -> None:
        """Let more come to what waits."""
        with anyio.move_on_after(self._gather_s):
            await self._is_awaited.wait()
        self._is_awaited = anyio.Event()

    async def _try(self, key: Key, failed: list[RedisError]) -> None:
        times = self._waiting[key]
        try:
            is_all = await self._store(key)
        except RedisError as error:
            if is_spoilt(error):
                _log.error("The server will not store what is known of a task (%s).", type(error).__name__)
                del self._waiting[key]
                return
            failed.append(error)
            self._waiting[key] = self._waiting.pop(key)  # behind those that may not fail
        else:
            if is_all and self._waiting[key] == times:
                del self._waiting[key]
