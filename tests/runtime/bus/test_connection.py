from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import InvalidResponse

from microturn.protocols import ContextPackage
from microturn.runtime.bus import (
    BusReplyError,
    BusSettings,
    BusUnreachableError,
    EmbeddedServer,
    UnfitServerError,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.patience import Backoff
from microturn.runtime.bus.raw import command, entries_by_stream
from microturn.runtime.bus.server_check import check_info, check_server
from microturn.runtime.bus.server_errors import TRANSIENT
from microturn.runtime.testing import Faults, FaultyLink

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

FIT = {"redis_version": "7.2.4", "maxmemory_policy": "noeviction", "aof_enabled": "1"}


async def test_the_built_in_server_is_fit(settings: BusSettings, caplog: pytest.LogCaptureFixture) -> None:
    async with open_clients(settings) as clients:
        await check_server(clients.commands, settings.url)
    assert caplog.records == []


@pytest.mark.parametrize("version", ["5.0.14", "6.2.14", "6.2"])
async def test_an_old_server_is_refused_by_its_version(version: str) -> None:
    with pytest.raises(UnfitServerError, match=rf"it is Redis {version}, expected 7\.0 or later"):
        check_info({**FIT, "redis_version": version}, "redis://somewhere:6379")


@pytest.mark.parametrize("version", ["7.0.15", "7.2.4", "8.2.0", "10.0.1"])
async def test_a_server_from_7_0_on_is_taken(version: str) -> None:
    check_info({**FIT, "redis_version": version}, "redis://somewhere:6379")


async def test_a_server_that_keeps_no_file_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_info({**FIT, "aof_enabled": "0"}, "redis://somewhere:6379")
    assert "keeps no append-only file" in caplog.text


async def test_a_server_that_evicts_is_refused(settings: BusSettings, server: EmbeddedServer) -> None:
    async with open_clients(settings) as clients:
        await command(clients.commands, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(UnfitServerError, match="'allkeys-lru', which would delete waiting tasks"):
                await check_server(clients.commands, server.url)
        finally:
            await command(clients.commands, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_an_address_where_nothing_answers_is_named_without_its_password() -> None:
    url = "redis://somebody:secret@127.0.0.1:1/3"
    async with open_clients(BusSettings(url, command_timeout_s=0.5)) as clients:
        with pytest.raises(BusUnreachableError) as caught:
            await check_server(clients.commands, url)
    assert "redis://127.0.0.1:1/3" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "somebody" not in str(caught.value)


async def test_a_refused_login_is_told_apart_from_silence(
    settings: BusSettings, server: EmbeddedServer
) -> None:
    async with open_clients(settings) as clients:
        await command(clients.commands, "ACL", "SETUSER", "guest", "on", ">right", "~*", "+@all")
    url = f"{server.url.replace('unix://', 'unix://guest:wrong@')}"
    async with open_clients(BusSettings(url)) as clients:
        with pytest.raises(BusReplyError, match="refused the login") as caught:
            await check_server(clients.commands, url)
    assert "wrong" not in str(caught.value)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """A server that gives one answer to whatever it is asked; none if that is empty."""

    async def serve(client: anyio.abc.SocketStream) -> None:
        async with client:
            async for _ in client:
                if answer:
                    await client.send(answer)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, own_tasks() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"redis://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (b"", BusUnreachableError, "no Redis server answers"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", UnfitServerError, "does not speak the Redis protocol"),
        (b"+OK\r\n", UnfitServerError, "it is Redis 0, expected 7.0 or later"),
        (b"*2\r\n:1\r\n:2\r\n", UnfitServerError, "it is Redis 0, expected 7.0 or later"),
        (b"-ERR nothing here\r\n", BusReplyError, "refused INFO"),
    ],
)
async def test_a_server_that_is_silent_or_talks_nonsense_is_told_in_time(
    answer: bytes, error: type[Exception], message: str
) -> None:
    async with answering(answer) as url:
        before_s = time.monotonic()
        with pytest.raises(error, match=message):
            async with open_worker_port(BusSettings(url, command_timeout_s=0.2)):
                pass
        assert time.monotonic() - before_s < 5


async def test_a_batch_under_way_when_the_connections_are_closed_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine closing takes long enough for the batch to connect anew."""
    close = BlockingConnectionPool.aclose

    async def close_slowly(pool: BlockingConnectionPool) -> None:
        await close(pool)
        await anyio.sleep(0.2)

    monkeypatch.setattr(BlockingConnectionPool, "aclose", close_slowly)
    with EmbeddedServer(tmp_path) as server, FaultyLink(server.url) as link:
        link.set(Faults(delay_s=0.1))
        async with open_clients(BusSettings(server.url)) as watching:
            async with open_clients(BusSettings(link.url)) as clients, own_tasks() as callers:
                for _ in range(3):
                    callers.start_soon(partial(clients.commands.send, "INCR", "key", key="key"))
                while await command(watching.commands, "GET", "key") != "3":  # done, and no reply is here yet
                    await anyio.sleep(0.001)
            with anyio.fail_after(2):
                while "connected_clients:1\r" not in str(await command(watching.commands, "INFO", "clients")):
                    await anyio.sleep(0.01)


@pytest.mark.parametrize("reply", ["OK", 5, ["a stream"], [["a stream", "its entries"]], [["s", [["1-1"]]]]])
async def test_a_reply_of_another_shape_is_an_error_that_is_tried_again(reply: object) -> None:
    with pytest.raises(InvalidResponse):
        entries_by_stream(reply)
    assert issubclass(InvalidResponse, TRANSIENT)


async def test_a_server_that_answers_after_ten_seconds_is_shown_and_costs_the_caller_nothing(
    settings: BusSettings, server: EmbeddedServer, package: Callable[..., ContextPackage]
) -> None:
    with FaultyLink(server.url) as link:
        slow = replace(settings, url=link.url, command_timeout_s=0.3)
        async with open_delegation_port(slow) as port, open_worker_port(slow) as worker:
            await port.submit(package("before"))
            link.set(Faults(delay_s=10))
            before_s = time.monotonic()
            assert port.submit_nowait(package("during"))
            assert time.monotonic() - before_s < 0.1
            with anyio.fail_after(5):
                while not port.health.reason:
                    await anyio.sleep(0.02)
            assert "Timeout" in port.health.reason
            link.heal()
            with anyio.fail_after(10):
                taken = {(await worker.take()).package.task_id for _ in range(2)}
                while port.health.reason:
                    await anyio.sleep(0.02)
            assert taken == {"before", "during"}


async def test_pauses_grow_to_a_limit_and_begin_anew_after_an_answer() -> None:
    backoff = Backoff(first_s=0.1, most_s=0.4)
    pauses = [backoff.pause_s() for _ in range(5)]
    assert all(
        low <= pause <= high
        for pause, (low, high) in zip(pauses, [(0.05, 0.1), (0.1, 0.2), *[(0.2, 0.4)] * 3], strict=True)
    )
    backoff.reset()
    assert backoff.pause_s() <= 0.1
