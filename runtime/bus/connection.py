"""How a process of the bus is connected: three clients, and a look at the server before it is trusted.

Commands and blocking reads want opposite settings, so each has its own client; large bytes have a third, so that no
command waits behind them. Commands are given up after a short time and repeated, which is safe because every write of
the bus is a script that may run twice. A blocking read is never repeated by the client: a repeated XREADGROUP would
take entries twice, and its reader has its own loop.
redis-py's defaults (5 s per command, ten repeats, 100 connections) would stall a caller for a minute. Knows nothing
of tasks.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from microturn.runtime.bus._errors import BusReplyError, BusUnreachableError, UnfitServerError
from microturn.runtime.bus.address import BusAddress, Kind, address_of, parse_address
from microturn.runtime.bus.batching import BatchingLink
from microturn.runtime.bus.link import ClusterLink, Link, ServerLink
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings


class StorageError(ConnectionError):
    """The server takes no writes as it cannot store them: its disk is full, say, or it has lost its replicas.

    It goes on by itself once it can.
    """


TRANSIENT = (
    ConnectionError,
    TimeoutError,
    ReadOnlyError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    InvalidResponse,
)
"""Errors that mend themselves: the server is away, starts, hands over to another, or was not understood."""
OLDEST = (7, 0)
"""Oldest server whose groups report their lag and forget what was deleted. Valkey calls itself 7.2.4 or later."""
_KEEPS_KEYS = re.compile(r"noeviction|volatile-.*")
_LOGIN = (AuthenticationError, AuthorizationError)
"""What redis-py raises, or hides behind a ConnectionError, when a login is refused."""
_CONNECTIONS = 64
"""To one server, at least; on a cluster each shard has readers of its own, three at most."""
CLOSE_WITHIN_S = 1.0
"""How long closing the connections may take."""
LONGEST_READ_S = 1.0
"""How long a read may wait on the server. The client waits longer, so that it does not give up an answer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of a process."""

    commands: Link
    """Short commands: given up after `command_timeout_s`, repeated twice. What is sent at once goes together."""
    blocking: Link
    """Reads that wait, for `LONGEST_READ_S` at most: no repeats; the caller sets the limit and has the loop."""
    bulk: Link
    """Large values, one to a command: replies are bytes. Limits as of commands."""


@asynccontextmanager
async def open_clients(settings: BusSettings) -> AsyncIterator[Clients]:
    """Make the clients; nothing is connected until the first command.

    Raises:
        BusAddressError: the URL is no address of a bus.
    """
    address, timeout_s = parse_address(settings.url), settings.command_timeout_s
    open_link, connections = _LINKS[address.kind], max(_CONNECTIONS, 3 * settings.shards)
    commands = open_link(address, _Limits(timeout_s, timeout_s, 2, connections))
    blocking = open_link(address, _Limits(timeout_s, LONGEST_READ_S + timeout_s, 0, connections))
    bulk = open_link(address, _Limits(timeout_s, timeout_s, 2, connections, gives_text=False))
    async with own_tasks() as tasks:
        try:
            yield Clients(BatchingLink(commands, tasks), blocking, bulk)
        finally:
            with anyio.move_on_after(CLOSE_WITHIN_S, shield=True):  # also when the caller is being cancelled
                await commands.aclose()
                await blocking.aclose()
                await bulk.aclose()


@dataclass(frozen=True, slots=True)
class _Limits:
    """How patient a client is."""

    connect_s: float
    reply_s: float
    repeats: int
    connections: int
    """To one server. A call beyond waits, or fails and is repeated by its caller."""
    gives_text: bool = True
    """Whether replies are text, or the bytes as they are."""

    @property
    def retry(self) -> Retry:
        return Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), self.repeats)

    @property
    def options(self) -> dict[str, Any]:
        """What every kind of client is told; redis-py takes the words as keyword arguments of any type."""
        return {
            "protocol": 2,
            "driver_info": None,  # redis-py would name itself, which a tenant's user need not be allowed
            "decode_responses": self.gives_text,
            "encoding_errors": "replace",  # a mangled entry must be rejected as a task, not stop its reader
            "socket_connect_timeout": self.connect_s,
            "socket_timeout": self.reply_s,
            "max_connections": self.connections,
            "retry": self.retry,
        }


def _server_link(address: BusAddress, limits: _Limits) -> Link:
    pool = BlockingConnectionPool.from_url(address.url, timeout=limits.connect_s, **limits.options)
    return ServerLink(Redis.from_pool(pool))


def _sentinel_link(address: BusAddress, limits: _Limits) -> Link:
    # Sentinels answer at once or not at all, however long the reads of the client wait.
    quick = {"socket_connect_timeout": limits.connect_s, "socket_timeout": limits.connect_s}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # because redis-py leaves it bare
        address.hosts,
        sentinel_kwargs={**quick, "retry": Retry(NoBackoff(), 0), **address.sentinel_login, **address.tls},
    )
    options = {**limits.options, **address.login, **address.tls}
    return ServerLink(sentinel.master_for(address.service, **options), *sentinel.sentinels)


def _cluster_link(address: BusAddress, limits: _Limits) -> Link:
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    options = {**limits.options, **address.login, **address.tls}
    return ClusterLink(RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options))


_LINKS: dict[Kind, Callable[[BusAddress, _Limits], Link]] = {
    "server": _server_link,
    "cluster": _cluster_link,
    "sentinel": _sentinel_link,
}


async def check_server(link: Link, url: str) -> None:
    """Refuse a server that would lose tasks; warn where a crash of it would. Looks at each primary of a cluster.

    Raises:
        BusUnreachableError: nothing answers at the address.
        BusReplyError: it answers, but not to us.
        UnfitServerError: it is no Redis server, too old, or evicts keys when its memory is full.
    """
    where = address_of(url)
    try:
        infos = await link.each_primary("INFO")
    except InvalidResponse:
        raise UnfitServerError(
            f"cannot use the server at {where}: it does not speak the Redis protocol; correct the URL, or leave it out "
            "to use the built-in server"
        ) from None
    except TRANSIENT as error:
        if isinstance(error, _LOGIN) or isinstance(error.__cause__, _LOGIN):
            raise BusReplyError(
                f"the Redis server at {where} refused the login; check the user and password in the URL"
            ) from None
        raise BusUnreachableError(
            f"no Redis server answers at {where} ({type(error).__name__}); start one there, correct the URL, or leave "
            "the URL out to use the built-in server"
        ) from None
    except ResponseError as error:
        raise BusReplyError(f"the Redis server at {where} refused INFO ({type(error).__name__})") from None
    for name, text in infos.items():
        check_info(_parse_info(str(text)), f"{where} ({name})" if name else where)


def check_info(info: dict[str, str], where: str) -> None:
    """Judge a server by what INFO says of it.

    Raises:
        UnfitServerError: it is too old, or evicts keys when its memory is full.
    """
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise UnfitServerError(
            f"cannot use the server at {where}: it is Redis {version}, expected 7.0 or later, or Valkey; older ones "
            "cannot clear up after a worker that died"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if _KEEPS_KEYS.fullmatch(policy) is None:
        raise UnfitServerError(
            f"cannot use the server at {where}: its maxmemory-policy is {policy!r}, which would delete waiting tasks "
            "when memory is short; set it to 'noeviction'"
        )
    if info.get("aof_enabled") == "0":
        _log.warning(
            "The server at %s keeps no append-only file: if it dies, delegated tasks are lost.", where
        )


class Backoff:
    """Growing, jittered pauses between attempts to reach a server that is away."""

    def __init__(self, *, first_s: float = 0.03, most_s: float = 0.5) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def pause_s(self) -> float:
        """How long to wait now: half to all of a span that doubles with every call."""
        span, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        return span * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: the server answered."""
        self._next_s = self._first_s


def is_unstorable(error: ResponseError) -> bool:
    """Whether the server says that it cannot store what is written, for which redis-py has no name."""
    return str(error).startswith(("MISCONF", "NOREPLICAS"))


def failed(doing: str, error: RedisError) -> BusReplyError | BusUnreachableError:
    """Make an error of ours for a caller who does not repeat."""
    if isinstance(error, TRANSIENT):
        return BusUnreachableError(
            f"cannot {doing}: the Redis server does not answer ({type(error).__name__}); see whether it runs"
        )
    return refused(doing, error)


def is_spoilt(error: RedisError) -> bool:
    """Whether a record is not what a script takes it for, as one that a foreign hand has written to.

    The same call would be refused for ever. All else mends: a missing right is given, a full memory drained.
    """
    text = str(error)
    return isinstance(error, ResponseError) and (
        text.startswith(("WRONGTYPE", "user_script")) or "is not an integer" in text
    )


def refused(doing: str, error: RedisError) -> BusReplyError:
    """Make an error of ours from one that repeating cannot mend; the server's own words may hold data."""
    return BusReplyError(
        f"the Redis server refused to {doing} ({type(error).__name__}); see the server's log"
    )


def _parse_info(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in (line.partition(":") for line in lines)}
