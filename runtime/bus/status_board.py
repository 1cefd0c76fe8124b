"""Where runtimes say how they are: a small record of each on the bus, renewed every second, read by operators.

Never on the beat, and never in anyone's way: a record that cannot be stored now is dropped, the next one is newer.
Records outlive their process for a while, so that the sessions of one that died can be found. Knows nothing of how
what is posted was gathered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
from redis.exceptions import RedisError

from microturn.protocols import ProtocolError
from microturn.protocols.runtime_status import RuntimeStatus
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys, checked_name
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.settings import BusSettings

PERIOD_S = 1.0
"""How often a status is renewed."""
KEPT_S = 3600.0
"""How long the status of a runtime that died is kept. Our choice: an operator comes within the hour."""
STALE_AFTER_S = 5.0
"""A status older than this says how it was. Our choice: five that did not come."""


@dataclass(frozen=True, slots=True)
class PostedStatus:
    """A status as it was found."""

    runtime_id: str
    is_alive: bool
    """Whether a process has the runtime id now."""
    status: RuntimeStatus | None
    """None where it says nothing of itself, or not in a way that this release can read."""
    age_s: float | None
    """Since it was posted, by the server's clock; None where there is none."""


@asynccontextmanager
async def posting_status(
    settings: BusSettings, status: Callable[[], RuntimeStatus], *, period_s: float = PERIOD_S
) -> AsyncIterator[None]:
    """Post what `status` returns once a period until the end of the block, then take it off the board.

    Has connections of its own, so that nothing else waits for it.

    Args:
        settings: where the bus is.
        status: called in the event loop between beats; must be quick.
        period_s: seconds between two posts.

    Raises:
        BusAddressError: the URL is no address of a bus.
    """
    async with open_clients(settings) as clients:
        keys = Keys(settings.tenant, settings.shards)
        key = keys.status(checked_name("runtime id", status().runtime_id))
        try:
            async with own_tasks() as tasks:
                tasks.start_soon(_post, clients.commands, keys, status, period_s, name="bus status")
                yield
        finally:
            with suppress(RedisError), anyio.move_on_after(1, shield=True):
                await command(clients.commands, "DEL", key, key=key)


async def _post(link: Link, keys: Keys, status: Callable[[], RuntimeStatus], period_s: float) -> None:
    while True:
        now = status()
        key = keys.status(now.runtime_id)
        with suppress(RedisError, TimeoutError), anyio.fail_after(period_s):
            await command(link, "SET", key, now.encode(), "PX", round(KEPT_S * 1000), key=key)
        await anyio.sleep(period_s)


async def read_statuses(link: Link, keys: Keys, runtime_ids: Sequence[str]) -> list[PostedStatus]:
    """Read what these runtimes say of themselves, in this order, in one call.

    Raises:
        redis.exceptions.RedisError: the server did not answer, or refused.
    """
    if not runtime_ids:
        return []
    wanted = [key for each in runtime_ids for key in (keys.holder(each), keys.status(each))]
    reply = await Scripts(link).run("read_status", wanted)
    return [
        _read(runtime_id, *reply[3 * place : 3 * place + 3]) for place, runtime_id in enumerate(runtime_ids)
    ]


def _read(runtime_id: str, is_held: str, left_ms: str, encoded: str) -> PostedStatus:
    status, age_s = None, None
    if encoded:
        with suppress(ProtocolError):
            status = RuntimeStatus.decode(encoded)
        age_s = max(0.0, KEPT_S - int(left_ms) / 1000)
    return PostedStatus(runtime_id, is_held == "1", status, age_s)
