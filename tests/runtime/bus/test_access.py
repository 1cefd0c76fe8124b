"""A tenant's user of a shared server can do all that the bus needs, and nothing to anyone else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import files

import anyio
import pytest
from redis.exceptions import NoPermissionError, ResponseError

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusNameError,
    BusReplyError,
    BusSettings,
    EmbeddedServer,
    access_rules,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.access import COMMANDS
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.raw import command

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


@asynccontextmanager
async def user_of(settings: BusSettings, server: EmbeddedServer) -> AsyncIterator[BusSettings]:
    """The settings of a user who has the rights of the tenant and no more."""
    name = f"user-{settings.tenant}"
    async with open_clients(settings) as clients:
        rules = access_rules(settings.tenant).split()
        await command(clients.commands, "ACL", "SETUSER", name, "reset", "on", ">right", *rules)
        yield replace(settings, url=server.url.replace("unix://", f"unix://{name}:right@"))
        await command(clients.commands, "ACL", "DELUSER", name)


async def test_a_whole_task_runs_with_a_tenants_rights(
    settings: BusSettings, server: EmbeddedServer, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        user_of(settings, server) as user,
        open_delegation_port(user) as port,
        open_worker_port(user) as worker,
        open_worker_port(user) as other,
    ):
        await port.submit(package("a", urgent=True))
        await port.submit(package("never-begun"))
        assert await port.cancel("never-begun", "enough") == "ended"
        assert await worker.begin(await worker.take()) is not None
        assert await port.update("a", "make it two") == "stored"
        await worker.emit("a", 1, [partial("a", 1, 1)])
        assert await other.begin(await other.take()) is None  # what was cancelled
        entry = await other.take()  # the first worker is silent
        assert await other.begin(entry) is not None
        assert not (await other.beat(entry, 2)).fenced
        final = DelegationEvent(task_id="a", attempt=2, seq=2, kind="final", revision=1)
        await other.emit("a", 2, [final], finish=True)
        kinds: list[str] = []
        async for event in port.events():
            assert isinstance(event, DelegationEvent)
            if event.task_id == "a":
                kinds.append(event.kind)
                await port.acknowledge("a", event.seq)
            if kinds[-1:] == ["final"]:
                break
        assert kinds == ["accepted", "partial", "final"]
        assert await port.workers() == 2


async def test_a_session_moves_with_a_tenants_rights(
    settings: BusSettings, server: EmbeddedServer, package: MakePackage
) -> None:
    async with user_of(settings, server) as user, open_delegation_port(user) as first:
        first.enter_nowait("session", 0.0)
        await first.submit(package("a"))
        async with open_delegation_port(user) as second:
            ledger = await second.reopen("session")
            assert [promise.task_id for promise in ledger.promises] == ["a"]
            second.leave_nowait("session")


async def test_a_picture_is_kept_and_loaded_with_a_tenants_rights(
    settings: BusSettings, server: EmbeddedServer, package: MakePackage
) -> None:
    async with (
        user_of(settings, server) as user,
        open_delegation_port(user) as port,
        open_worker_port(user) as worker,
    ):
        reference = port.keep_nowait("session", b"\xff\xd8picture", "image/jpeg", 0)
        assert reference is not None
        await port.submit(package("a"))
        assert await worker.load(await worker.take(), reference) == b"\xff\xd8picture"


async def test_nothing_else_is_allowed(settings: BusSettings, server: EmbeddedServer) -> None:
    others = "mt:another:{s00}:tasks"
    async with user_of(settings, server) as user, open_clients(user) as clients:
        for words in (
            ("XREAD", "STREAMS", others, "0"),
            ("XADD", others, "*", "a", "b"),
            ("DEL", others),
            ("SET", "mt:default2", "x"),
            ("KEYS", "*"),
            ("SCAN", "0"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("MONITOR",),
            ("SHUTDOWN",),
            ("PUBLISH", "channel", "x"),
            ("FUNCTION", "LIST"),
            ("SCRIPT", "FLUSH"),
        ):
            with pytest.raises(NoPermissionError):
                await command(clients.commands, *words)
        with pytest.raises(ResponseError, match="(?i)permission|can't access|NOPERM|not allowed"):
            await command(clients.commands, "EVAL", f"return redis.call('DEL', '{others}')", "0")


async def test_a_user_without_the_rights_is_told_so(settings: BusSettings, server: EmbeddedServer) -> None:
    async with user_of(settings, server) as user:
        elsewhere = replace(user, tenant="another")
        with pytest.raises(BusReplyError, match="refused to"):
            async with open_worker_port(elsewhere):
                pass
        with pytest.raises(BusReplyError, match="refused to"), anyio.fail_after(5):
            async with open_delegation_port(elsewhere):
                pass


async def test_just_the_commands_that_the_scripts_use_are_allowed() -> None:
    used: set[str] = set()
    for file in files("microturn.runtime.bus").iterdir():
        if file.name.endswith(".lua"):
            for name, sub in re.findall(r"redis\.call\('([A-Z]+)'(?:, '([A-Z]+)')?", file.read_text()):
                used.add(f"{name}|{sub}".lower() if name in ("XGROUP", "XINFO") else name.lower())
    assert used <= set(COMMANDS)
    # What is sent without a script: the group of workers, the inbox, connections, and a look at the server.
    plain = {
        "xgroup|create",
        "xread",
        "zrem",
        "eval",
        "evalsha",
        "info",
        "command",
        "cluster|slots",
        "asking",
    }
    plain |= {"auth", "hello", "ping", "select"}
    assert set(COMMANDS) == used | plain


async def test_a_tenant_that_would_reach_beyond_its_own_keys_has_no_rules() -> None:
    with pytest.raises(BusNameError):
        access_rules("*")
