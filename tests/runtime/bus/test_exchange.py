"""Commands and replies over a pool of connections: order, errors in their place, time limits, repeats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from microturn.runtime.bus import BusSettings
from microturn.runtime.bus.exchange import exchange

pytestmark = [pytest.mark.redis, pytest.mark.anyio]


@asynccontextmanager
async def pool(
    url: str, *, limit_s: float = 2.0, repeats: int = 0, connections: int = 1
) -> AsyncIterator[BlockingConnectionPool]:
    """A pool as the bus makes it."""
    made = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        driver_info=None,
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=limit_s,
        socket_connect_timeout=limit_s,
        max_connections=connections,
        retry=Retry(NoBackoff(), repeats),
    )
    try:
        yield made
    finally:
        await made.aclose()


class Fickle:
    """A server that leaves the first calls without an answer, by silence or by hanging up, and says PONG to others."""

    def __init__(self, unanswered: int, *, hangs_up: bool) -> None:
        self.calls: list[bytes] = []
        self._unanswered = unanswered
        self._hangs_up = hangs_up

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                while True:
                    self.calls.append(await stream.receive())
                    if len(self.calls) > self._unanswered:
                        await stream.send(b"+PONG\r\n")
                    elif self._hangs_up:
                        return
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return


@asynccontextmanager
async def fickle(unanswered: int, *, hangs_up: bool) -> AsyncIterator[tuple[Fickle, str]]:
    """The server and its URL."""
    server = Fickle(unanswered, hangs_up=hangs_up)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        yield server, f"redis://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def test_replies_come_in_order_and_an_error_stands_where_its_reply_would(settings: BusSettings) -> None:
    key = f"{settings.tenant}:key"
    async with pool(settings.url) as connections:
        replies = await exchange(
            connections, [("SET", key, "é"), ("INCR", key), ("GET", key), ("RPUSH", f"{key}s", 1, "2")]
        )
        assert (replies[0], replies[2], replies[3]) == ("OK", "é", 2)
        assert isinstance(replies[1], ResponseError)
        assert await exchange(connections, [("LRANGE", f"{key}s", 0, -1)]) == [["1", "2"]]


async def test_half_a_character_is_replaced(settings: BusSettings) -> None:
    key = f"{settings.tenant}:key"
    async with pool(settings.url) as connections:
        await exchange(connections, [("SET", key, "a\ud800b")])
        assert await exchange(connections, [("GET", key)]) == ["a?b"]


async def test_large_commands_pass(settings: BusSettings) -> None:
    key, text = f"{settings.tenant}:key", "x" * 5_000_000
    async with pool(settings.url) as connections:
        assert await exchange(connections, [("SET", key, text), ("GET", key)]) == ["OK", text]
        await exchange(connections, [("DEL", key)])


async def test_a_reply_that_does_not_come_is_given_up_and_the_connection_is_not_used_again() -> None:
    async with (
        fickle(1, hangs_up=False) as (server, url),
        pool(url, limit_s=0.1) as connections,
    ):
        with pytest.raises(TimeoutError):
            await exchange(connections, [("PING", "first")])
        assert await exchange(connections, [("PING", "second")]) == ["PONG"]
        assert [b"first" in call for call in server.calls] == [True, False]


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_what_fails_is_repeated_as_often_as_the_pool_says(hangs_up: bool) -> None:
    async with (
        fickle(2, hangs_up=hangs_up) as (server, url),
        pool(url, limit_s=0.1, repeats=2) as connections,
    ):
        assert await exchange(connections, [("PING", 1)]) == ["PONG"]
        assert len(server.calls) == 3
        assert len(set(server.calls)) == 1
    async with (
        fickle(3, hangs_up=hangs_up) as (server, url),
        pool(url, limit_s=0.1, repeats=2) as connections,
    ):
        with pytest.raises((TimeoutError, ConnectionError)):
            await exchange(connections, [("PING", 1)])
        assert len(server.calls) == 3


async def test_a_cancelled_exchange_leaves_no_reply_behind_and_gives_its_connection_back(
    settings: BusSettings,
) -> None:
    key = f"{settings.tenant}:nothing"
    async with pool(settings.url) as connections:
        with anyio.move_on_after(0.05):
            await exchange(connections, [("BLPOP", key, 5)])
        with anyio.fail_after(1):
            assert await exchange(connections, [("PING",)]) == ["PONG"]
