from __future__ import annotations

import logging

import pytest

from microturn.runtime.bus import (
    BusReplyError,
    BusSettings,
    BusUnreachableError,
    EmbeddedServer,
    UnfitServerError,
)
from microturn.runtime.bus.address import address_of
from microturn.runtime.bus.connection import Backoff, check_info, check_server, open_clients
from microturn.runtime.bus.raw import command

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


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://u:p@host:7000/1", "redis://host:7000/1"),
        ("rediss://host", "rediss://host:6379"),
        ("redis://:p@[::1]:1/0?password=p", "redis://[::1]:1/0"),
        ("unix://u:p@/run/redis.sock?db=1&password=p", "unix:///run/redis.sock"),
    ],
)
async def test_an_address_has_no_user_password_or_options(url: str, address: str) -> None:
    assert address_of(url) == address


async def test_pauses_grow_to_a_limit_and_begin_anew_after_an_answer() -> None:
    backoff = Backoff(first_s=0.1, most_s=0.4)
    pauses = [backoff.pause_s() for _ in range(5)]
    assert all(
        low <= pause <= high
        for pause, (low, high) in zip(pauses, [(0.05, 0.1), (0.1, 0.2), *[(0.2, 0.4)] * 3], strict=True)
    )
    backoff.reset()
    assert backoff.pause_s() <= 0.1
