"""The runtimes of a bus: each id in one process at a time, and the inboxes of those that never came back deleted.

Knows nothing of events.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus._errors import RuntimeIdTakenError
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.layout import agree_on_layout
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_errors import failed
from microturn.runtime.bus.settings import BusSettings

FORGET_AFTER_S = 24 * 3600.0
"""How long a runtime may be away and still find what it had not acknowledged."""
ATTEND_EVERY_S = 60.0


class RuntimeRegistry:
    """One runtime's entry in the list. `run` is to be started in the owner's task group, inside `registered`."""

    def __init__(
        self,
        link: Link,
        keys: Keys,
        settings: BusSettings,
        *,
        runtime_id: str,
        forget_after_s: float = FORGET_AFTER_S,
    ) -> None:
        self._link = link
        self._scripts = Scripts(link)
        self._keys = keys
        self._settings = settings
        self._runtime_id = runtime_id
        self._process = uuid4().hex
        """The id may be an earlier process's; this is not."""
        self._forget_after_ms = round(forget_after_s * 1000)
        self._seemed_gone: set[str] = set()

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[None]:
        """Agree on the layout, and have the runtime id until the end of the block.

        A process that was killed has its id for three periods of presence more, so that long is waited for it.

        Raises:
            RuntimeIdTakenError: another live process has the id.
            UnfitSettingsError: the bus is spread over another number of shards.
            BusUnreachableError: the server does not answer.
        BusReplyError: the server refused.
        """
        await agree_on_layout(self._link, self._keys)
        give_up_s = time.monotonic() + 1.5 * self._settings.presence_ttl_ms / 1000
        try:
            while not await self._hold(self._settings.presence_ttl_ms):
                if time.monotonic() > give_up_s:
                    raise RuntimeIdTakenError(self._runtime_id)
                await anyio.sleep(self._settings.presence_s / 4)
        except RedisError as error:
            raise failed("register a runtime", error) from error
        try:
            yield
        finally:
            with suppress(RedisError), anyio.move_on_after(1, shield=True):
                await self._hold(0)

    async def run(self) -> None:
        """Keep the runtime id, and attend once a minute, until cancelled.

        Raises:
            RuntimeIdTakenError: this process was stopped for so long that another has taken the id.
        """
        attend_at_s = 0.0
        while True:
            with suppress(RedisError):  # while the server is away nobody else can take the id either
                if not await self._hold(self._settings.presence_ttl_ms):
                    raise RuntimeIdTakenError(self._runtime_id)
                if time.monotonic() >= attend_at_s:
                    await self.attend()
                    attend_at_s = time.monotonic() + ATTEND_EVERY_S
            await anyio.sleep(self._settings.presence_s)

    async def attend(self) -> None:
        """Note that this runtime lives, and delete what belonged to those that have long been gone.

        Gone is who seems so twice in a row: when the server's clock jumps, everybody does until the next time.
        """
        runtimes = self._keys.runtimes()
        gone = set(await self._scripts.run("attend", [runtimes], self._runtime_id, self._forget_after_ms))
        for runtime_id in gone & self._seemed_gone:
            for shard in range(self._keys.shards):
                inbox = self._keys.inbox(shard, runtime_id)
                await command(self._link, "DEL", inbox, key=inbox)
            await command(self._link, "ZREM", runtimes, runtime_id, key=runtimes)
        self._seemed_gone = gone

    async def _hold(self, lease_ms: int) -> bool:
        reply = await self._scripts.run(
            "hold", [self._keys.holder(self._runtime_id)], self._process, lease_ms
        )
        return reply[0] == "1"
