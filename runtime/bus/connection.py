"""How a process of the bus is connected: three clients, each as patient as its calls need.

Commands and blocking reads want opposite settings, so each has its own client; large bytes have a third, so that no
command waits behind them. Commands are given up after a short time and repeated, which is safe because every write of
the bus is a script that may run twice. A blocking read is never repeated by the client: a repeated XREADGROUP would
take entries twice, and its reader has its own loop.
redis-py's defaults (5 s per command, ten repeats, 100 connections) would stall a caller for a minute. Knows nothing
of tasks.
"""

from __future__ import annotations

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

from microturn.runtime.bus.address import BusAddress, Kind, parse_address
from microturn.runtime.bus.batching import BatchingLink
from microturn.runtime.bus.link import ClusterLink, Link, ServerLink, close_all
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.settings import BusSettings

_CONNECTIONS = 64
"""To one server, at least; on a cluster each shard has readers of its own, four at most."""
LONGEST_READ_S = 1.0
"""How long a read may wait on the server. The client waits longer, so that it does not give up an answer."""


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
    open_link, connections = _LINKS[address.kind], max(_CONNECTIONS, 4 * settings.shards)
    commands = open_link(address, _Limits(timeout_s, timeout_s, 2, connections))
    blocking = open_link(address, _Limits(timeout_s, LONGEST_READ_S + timeout_s, 0, connections))
    bulk = open_link(address, _Limits(timeout_s, timeout_s, 2, connections, gives_text=False))
    try:
        async with own_tasks() as tasks:
            yield Clients(BatchingLink(commands, tasks), blocking, bulk)
    finally:  # not before the batches have ended: one under way would connect anew, and nobody would close that
        with anyio.CancelScope(shield=True):  # also when the caller is being cancelled
            await close_all(commands.aclose, blocking.aclose, bulk.aclose)


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
