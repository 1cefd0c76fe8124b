"""How a command reaches the server that has its keys: one server, or a cluster of them.

Replies come as the server sent them, under protocol 2, whatever redis-py makes of them in this or the next release.
Where an application has OpenTelemetry record redis-py's commands, those of the bus are left out: a delegation has spans
of its own, and a bus that only waits would fill the record. Knows nodes and redis-py; nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from traceback import walk_tb
from typing import Final, Protocol

import anyio
from opentelemetry.context import attach, detach, set_value
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError, RedisClusterException, RedisError

from microturn.runtime.bus.exchange import Argument, Command, exchange

_UNRECORDED: Final = "suppress_instrumentation"
"""Source: the key in the context of OpenTelemetry's API by which all its instrumentations know what is not for them."""


class Link(Protocol):
    """What the bus needs of a client. Errors are redis-py's."""

    def route(self, key: str) -> str:
        """Name the way to a key: keys with one name may share a command or a pipeline."""

    async def send(self, *args: Argument, key: str | None = None) -> object:
        """Send one command, to where `key` lives if it is given. Where a key is given, others may go along."""

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        """Send commands in one go to where `key` lives; in place of a reply there may be its error.

        Raises:
            redis.exceptions.RedisError: the server did not answer; any of them may have been done.
        """

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        """Send one command to every server that takes writes; its address, if there are several, and its reply."""

    async def aclose(self) -> None:
        """Close the connections."""


class ServerLink:
    """A link to one server."""

    def __init__(self, client: Redis, *guides: Redis) -> None:
        """`guides` are clients that know where the server is, and are closed with it."""
        self._client = client
        self._guides = guides

    def route(self, key: str) -> str:
        """As `Link`: all keys are in one place."""
        return ""

    async def send(self, *args: Argument, key: str | None = None) -> object:
        """As `Link`."""
        (reply,) = await self.send_all("", [args])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        """As `Link`."""
        with _unrecorded():  # of which there are none but the questions to sentinels
            return await exchange(self._client.connection_pool, commands)

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        """As `Link`."""
        return {"": await self.send(*args)}

    async def aclose(self) -> None:
        """As `Link`."""
        await close_all(*(client.aclose for client in (self._client, *self._guides)))


class ClusterLink:
    """A link to the nodes of a cluster."""

    def __init__(self, client: RedisCluster) -> None:
        # All replies but those from which redis-py learns the layout keep the shape in which the server sends them.
        callbacks = client.connection_kwargs["response_callbacks"]
        for name in [name for name in callbacks if not name.startswith(("CLUSTER", "COMMAND"))]:
            del callbacks[name]
        self._client = client

    def route(self, key: str) -> str:
        """As `Link`: keys with one hash tag are in one place, wherever that is now."""
        return key[key.find("{") : key.find("}") + 1]

    async def send(self, *args: Argument, key: str | None = None) -> object:
        """As `Link`."""
        with _cluster_errors(), _unrecorded():
            if key is None:
                result: object = await self._client.execute_command(*args)
            else:  # redis-py would first ask the server which of the words are keys
                result = await self._client.execute_command(*args, target_nodes=await self._node_of(key))
            return result

    async def send_all(self, key: str, commands: Sequence[Command]) -> list[object]:
        """As `Link`."""
        pipeline = self._client.pipeline()
        for args in commands:
            pipeline.execute_command(*args)
        with _cluster_errors(), _unrecorded():
            replies: list[object] = await pipeline.execute(raise_on_error=False)
            return [_as_redis_error(reply) if isinstance(reply, Exception) else reply for reply in replies]

    async def each_primary(self, *args: Argument) -> dict[str, object]:
        """As `Link`."""
        with _cluster_errors(), _unrecorded():
            await self._client.initialize()
            return {
                node.name: await self._client.execute_command(*args, target_nodes=node)
                for node in self._client.get_primaries()
            }

    async def aclose(self) -> None:
        """As `Link`."""
        nodes = self._client.nodes_manager
        # After a failure redis-py takes itself for closed, with its connections open.
        await close_all(self._client.aclose, nodes.aclose, partial(nodes.aclose, "startup_nodes"))

    async def _node_of(self, key: str) -> ClusterNode:
        await self._client.initialize()
        node = self._client.get_node_from_key(key)
        if node is None:
            raise ConnectionError("no node of the cluster has the slot of this key")
        return node


async def close_all(*closings: Callable[[], Awaitable[None]]) -> None:
    """Close several things at once; one that fails or takes its time keeps no other open.

    There is no limit of time: a closing that is cancelled before it has come to a connection leaves it open. redis-py
    waits for each as long as for connecting, and lets go of it in any case.
    """
    async with anyio.create_task_group() as tasks:
        for close in closings:
            tasks.start_soon(_close, close)


async def _close(close: Callable[[], Awaitable[None]]) -> None:
    with suppress(RedisError):  # the server did not answer to it, which is no matter any more
        await close()


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """Have redis-py's troubles with a cluster raised as what they are, a `RedisError`."""
    try:
        yield
    except Exception as error:
        known = _as_redis_error(error)
        if known is error:
            raise
        raise known from error


def _as_redis_error(error: Exception) -> Exception:
    """Make a `ConnectionError` of what redis-py leaves without one; any other error stays as it is."""
    if isinstance(error, RedisClusterException):  # it cannot be reached, or has lost slots
        return ConnectionError(f"the cluster cannot serve the call ({type(error).__name__})")
    if _is_closed_under_way(error):
        return ConnectionError("the connection to the node was closed before the command was written")
    return error


def _is_closed_under_way(error: Exception) -> bool:
    """Whether redis-py closed a connection that another task of its own was about to write to.

    After a failure its cluster client closes all connections of a node that nobody uses, which takes a few turns of the
    loop; one that is taken meanwhile loses its writer (seen in redis-py 8.1, on Python 3.11).
    """
    if not (isinstance(error, AttributeError) and error.obj is None and error.name == "writelines"):
        return False
    raised_in = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
    return raised_in[-1:] == [Connection.__module__]


@contextmanager
def _unrecorded() -> Iterator[None]:
    """Have instrumentations of libraries leave out what is done in the block. Takes about a microsecond."""
    token = attach(set_value(_UNRECORDED, True))
    try:
        yield
    finally:
        detach(token)
