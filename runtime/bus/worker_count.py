"""Counts the workers that live, so that a user can be told that nobody works. Knows nothing of what they do."""

from __future__ import annotations

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus._errors import BusUnreachableError
from microturn.runtime.bus.health import HealthMonitor
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings


class WorkerCount:
    """Keeps the count in a port's health. `run` is to be started in the owner's task group."""

    def __init__(self, scripts: Scripts, keys: Keys, settings: BusSettings, *, health: HealthMonitor) -> None:
        self._scripts = scripts
        self._keys = keys
        self._settings = settings
        self._health = health

    async def run(self) -> None:
        """Count twice as often as workers show themselves, until cancelled.

        A server that falls silent is noticed within one and a half presence periods, 0.75 s by default, so that with
        the micro-turn in which it is told the session knows within a second.
        """
        while True:
            try:
                with anyio.fail_after(self._settings.presence_s):
                    workers = await self._count()
            except (RedisError, TimeoutError) as error:
                self._health.fails("presence", error)
            else:
                self._health.count_workers(workers)
                self._health.works("presence")
            await anyio.sleep(self._settings.presence_s / 2)

    async def now(self) -> int:
        """Count once.

        Raises:
            BusUnreachableError: the server does not answer.
        """
        try:
            return await self._count()
        except RedisError as error:
            raise BusUnreachableError(
                f"cannot count the workers: the Redis server did not answer ({type(error).__name__})"
            ) from None

    async def _count(self) -> int:
        ttl_ms = self._settings.presence_ttl_ms
        return int((await self._scripts.run("presence", [self._keys.workers()], "", ttl_ms))[0])
