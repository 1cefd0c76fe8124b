"""One look at a tenant on the bus, for operators: who is there, what waits, what runs, what was given up.

Reads only, in two rounds of short calls whose size is bounded, however much is on the server. All ages are by the
server's clock. Has names and numbers, never a word that was said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from microturn.runtime.bus._errors import UnfitSettingsError
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.dead_letters import DeadLetter, read_newest
from microturn.runtime.bus.keys import LANES, Keys, Lane, checked_name
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.bus.server_errors import failed
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.bus.status_board import PostedStatus, read_statuses
from microturn.runtime.bus.stored_task import sections

MOST_PROCESSES = 200
"""Workers, and runtimes, that are told of; the newest. Our choice."""
NEWEST_DEAD = 5
"""Tasks given up that are told of in each shard. Our choice."""


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """One stream of tasks of one shard."""

    shard: int
    lane: Lane
    waiting: int
    """Tasks that no worker has taken. One that was cancelled while it waited counts until a worker takes it out."""
    running: int
    """Tasks that a worker has, or had when it died."""
    lag: int | None
    """What the server says is not delivered yet, by which workers are scaled; None where it does not know."""
    oldest_waiting_s: float | None
    """Since the oldest task that waits was submitted; None where none waits."""
    oldest_running_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker that lives."""

    worker_id: str
    seen_s: float
    """Since it last showed itself."""
    running: int
    """Tasks that it has."""


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """One server, or one primary of a cluster."""

    name: str
    """Its address in a cluster; empty where there is one server."""
    program: str
    """Its kind and version."""
    memory_bytes: int
    limit_bytes: int
    """0 where it has none."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A tenant at one moment."""

    tenant: str
    now_ms: int
    """Milliseconds since 1970 by the server's clock."""
    is_used: bool
    """Whether any process has ever taken part."""
    servers: tuple[ServerLoad, ...]
    lanes: tuple[LaneLoad, ...]
    workers: tuple[WorkerSeen, ...]
    runtimes: tuple[PostedStatus, ...]
    """Those that live, and those that died within the hour without taking their status off."""
    dead_count: int
    dead: tuple[DeadLetter, ...]
    """The newest, newest first."""


class BusObserver:
    """Looks at a bus again and again over one set of connections. Made by `open_observer`."""

    def __init__(self, link: Link, settings: BusSettings) -> None:
        self._link = link
        self._settings = settings
        self._scripts = Scripts(link)
        self._keys = Keys(settings.tenant, settings.shards)

    async def look(self) -> Overview:
        """Look once.

        Raises:
            BusUnreachableError: the server does not answer.
            BusReplyError: the server refused.
            UnfitSettingsError: the bus is spread over another number of shards.
        """
        try:
            return await self._look()
        except RedisError as error:
            raise failed("look at the bus", error) from error

    async def _look(self) -> Overview:
        keys = self._keys
        infos = await self._link.each_primary("INFO")
        roster = await self._scripts.run(
            "read_roster", [keys.workers(), keys.runtimes(), keys.layout()], MOST_PROCESSES
        )
        now_ms, shards = int(roster[0]), roster[1]
        self._check_layout(shards)
        workers, runtimes = sections(roster[2:])
        posted = await read_statuses(self._link, keys, runtimes[::2])
        queues = [await self._read_queue(shard) for shard in range(keys.shards)]
        dead_count, dead = await read_newest(self._scripts, keys, NEWEST_DEAD)
        lanes, held = _lanes(queues)
        return Overview(
            tenant=self._settings.tenant,
            now_ms=now_ms,
            is_used=shards != "",
            servers=tuple(_server(name, str(text)) for name, text in infos.items()),
            lanes=lanes,
            workers=_live(workers, held, now_ms, self._settings.presence_ttl_ms),
            runtimes=tuple(each for each in posted if each.is_alive or each.status is not None),
            dead_count=dead_count,
            dead=dead,
        )

    async def _read_queue(self, shard: int) -> list[str]:
        return await self._scripts.run("read_queue", [self._keys.lane(shard, lane) for lane in LANES])

    def _check_layout(self, shards: str) -> None:
        if shards and shards != str(self._keys.shards):
            raise UnfitSettingsError(
                f"cannot look at the bus of tenant {self._settings.tenant!r} with shards={self._keys.shards}: it is "
                f"spread over {shards} shards; say --shards {shards}"
            )


@asynccontextmanager
async def open_observer(settings: BusSettings) -> AsyncIterator[BusObserver]:
    """Connect to a bus to look at it; takes no part in it.

    Raises:
        BusAddressError: the URL is no address of a bus.
        BusNameError: the tenant cannot be part of a key.
    """
    checked_name("tenant", settings.tenant)
    async with open_clients(settings) as clients:
        yield BusObserver(clients.commands, settings)


def _lanes(queues: Sequence[Sequence[str]]) -> tuple[tuple[LaneLoad, ...], Counter[str]]:
    """Read what `read_queue` said of each shard: its lanes, and how many tasks each worker holds in all."""
    lanes: list[LaneLoad] = []
    held: Counter[str] = Counter()
    for shard, reply in enumerate(queues):
        now_ms, rest = int(reply[0]), list(reply[1:])
        for lane in LANES:
            entries, delivered, lag, waiting_since, running_since, count = rest[:6]
            consumers, rest = rest[6 : 6 + int(count)], rest[6 + int(count) :]
            held.update(
                {name: int(tasks) for name, tasks in zip(consumers[::2], consumers[1::2], strict=True)}
            )
            lanes.append(
                LaneLoad(
                    shard=shard,
                    lane=lane,
                    waiting=max(0, int(entries) - int(delivered)),
                    running=int(delivered),
                    lag=int(lag) if lag else None,
                    oldest_waiting_s=_age_s(waiting_since, now_ms),
                    oldest_running_s=_age_s(running_since, now_ms),
                )
            )
    return tuple(lanes), held


def _live(
    seen: Sequence[str], held: Counter[str], now_ms: int, presence_ttl_ms: int
) -> tuple[WorkerSeen, ...]:
    workers = (
        WorkerSeen(worker_id, (now_ms - float(at_ms)) / 1000, held[worker_id])
        for worker_id, at_ms in zip(seen[::2], seen[1::2], strict=True)
    )
    return tuple(worker for worker in workers if abs(worker.seen_s) * 1000 <= presence_ttl_ms)


def _server(name: str, info: str) -> ServerLoad:
    def field(pattern: str) -> str:
        found = re.search(rf"^{pattern}:(\S+)", info, re.MULTILINE)
        return found[1] if found else ""

    valkey, redis = field("valkey_version"), field("redis_version")
    program = f"Valkey {valkey}" if valkey else f"Redis {redis}"
    return ServerLoad(name, program, int(field("used_memory") or 0), int(field("maxmemory") or 0))


def _age_s(since_ms: str, now_ms: int) -> float | None:
    return max(0.0, (now_ms - int(since_ms)) / 1000) if since_ms else None
