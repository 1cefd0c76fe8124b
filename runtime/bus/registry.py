"""The list of runtimes, by which the inboxes of those that never came back are deleted. Knows nothing of events."""

from __future__ import annotations

from contextlib import suppress

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts

FORGET_AFTER_S = 24 * 3600.0
"""How long a runtime may be away and still find what it had not acknowledged."""
ATTEND_EVERY_S = 60.0


class RuntimeRegistry:
    """One runtime's entry in the list. `run` is to be started in the owner's task group."""

    def __init__(
        self, link: Link, keys: Keys, *, runtime_id: str, forget_after_s: float = FORGET_AFTER_S
    ) -> None:
        self._link = link
        self._scripts = Scripts(link)
        self._keys = keys
        self._runtime_id = runtime_id
        self._forget_after_ms = round(forget_after_s * 1000)

    async def run(self) -> None:
        """Attend once a minute until cancelled."""
        while True:
            with suppress(RedisError):  # an hour without it does no harm
                await self.attend()
            await anyio.sleep(ATTEND_EVERY_S)

    async def attend(self) -> None:
        """Note that this runtime lives, and delete what belonged to those that have long been gone."""
        runtimes = self._keys.runtimes()
        for gone in await self._scripts.run("attend", [runtimes], self._runtime_id, self._forget_after_ms):
            for shard in range(self._keys.shards):
                await command(self._link, "DEL", self._keys.inbox(shard, gone))
            await command(self._link, "ZREM", runtimes, gone)
