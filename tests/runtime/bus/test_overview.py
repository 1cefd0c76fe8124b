"""What an operator sees of a bus, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent, Floor
from microturn.protocols.runtime_status import RuntimeStatus, SessionStatus
from microturn.runtime.bus import (
    BusReplyError,
    BusSettings,
    BusUnreachableError,
    DelegationPort,
    EmbeddedServer,
    UnfitSettingsError,
    WorkerPort,
    access_rules,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.overview import BusObserver, LaneLoad, Overview, open_observer
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.status_board import posting_status

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


@pytest.fixture
async def observer(settings: BusSettings) -> AsyncIterator[BusObserver]:
    async with open_observer(settings) as opened:
        yield opened


def lane(overview: Overview, name: str) -> LaneLoad:
    (found,) = (each for each in overview.lanes if each.lane == name)
    return found


async def until(observer: BusObserver, is_so: Callable[[Overview], bool]) -> Overview:
    with anyio.fail_after(5):
        while not is_so(seen := await observer.look()):
            await anyio.sleep(0.02)
    return seen


async def test_a_tenant_that_nobody_has_used_is_empty(observer: BusObserver) -> None:
    seen = await observer.look()
    assert not seen.is_used
    assert (seen.workers, seen.runtimes, seen.dead_count, seen.dead) == ((), (), 0, ())
    assert [(each.lane, each.waiting, each.running) for each in seen.lanes] == [
        ("urgent", 0, 0),
        ("tasks", 0, 0),
    ]
    (server,) = seen.servers
    assert server.memory_bytes > 100_000
    assert server.program.startswith(("Valkey ", "Redis "))


async def test_what_waits_and_what_runs_is_counted_with_its_age(
    observer: BusObserver, settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings, worker_id="w1") as worker:
        await port.submit(package("running"))
        assert await worker.begin(await worker.take()) is not None
        await port.submit(package("waits-longest"))
        await anyio.sleep(0.3)
        await port.submit(package("waits"))
        await port.submit(package("in-a-hurry", urgent=True))
        seen = await observer.look()
    tasks, urgent = lane(seen, "tasks"), lane(seen, "urgent")
    assert (tasks.waiting, tasks.running, tasks.lag) == (2, 1, 2)
    assert (urgent.waiting, urgent.running) == (1, 0)
    assert tasks.oldest_waiting_s is not None and 0.25 < tasks.oldest_waiting_s < 5
    assert tasks.oldest_running_s is not None and tasks.oldest_running_s >= tasks.oldest_waiting_s
    assert urgent.oldest_waiting_s is not None and urgent.oldest_waiting_s < tasks.oldest_waiting_s
    assert [(worker.worker_id, worker.running) for worker in seen.workers] == [("w1", 1)]
    assert len(seen.runtimes) == 1 and seen.runtimes[0].is_alive


async def test_a_look_changes_nothing(
    observer: BusObserver,
    settings: BusSettings,
    package: MakePackage,
    port_and_worker: tuple[DelegationPort, WorkerPort],
) -> None:
    port, worker = port_and_worker
    await port.submit(package("a"))
    for _ in range(3):
        await observer.look()
    assert (await worker.take()).package.task_id == "a"


async def test_what_was_given_up_is_named_without_a_word_of_it(
    observer: BusObserver, settings: BusSettings, package: MakePackage
) -> None:
    once = replace(settings, max_attempts=1, lease_s=0.1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("poison", intent="the user's secret words"))
        async with open_worker_port(once) as worker:
            assert await worker.begin(await worker.take()) is not None
        async with open_worker_port(once) as other:
            assert await other.begin(await other.take()) is None
        seen = await observer.look()
    assert seen.dead_count == 1
    (letter,) = seen.dead
    assert (letter.task_id, letter.reason) == ("poison", "attempts")
    assert abs(seen.now_ms - letter.at_ms) < 5000
    assert "secret" not in repr(seen)


async def test_a_runtimes_status_is_seen_while_it_lives_and_after_it_died(
    observer: BusObserver, settings: BusSettings
) -> None:
    status = RuntimeStatus(
        runtime_id="r1",
        sessions=(SessionStatus(session_id="kitchen", floor=Floor.USER, age_s=3),),
        session_count=1,
        tick_p99_ms=41.5,
    )
    async with AsyncExitStack() as ended:
        await ended.enter_async_context(posting_status(settings, lambda: status, period_s=0.05))
        async with open_delegation_port(settings, runtime_id="r1"):
            seen = await until(observer, lambda seen: any(each.status for each in seen.runtimes))
            (posted,) = seen.runtimes
            assert posted.is_alive
            assert posted.status == status
            assert posted.age_s is not None and posted.age_s < 2
        seen = await until(observer, lambda seen: not seen.runtimes[0].is_alive)
        assert seen.runtimes[0].status == status  # its process is gone, and its session can be found
    assert (await observer.look()).runtimes == ()  # it took its status off


async def test_a_status_that_another_release_wrote_does_not_hide_the_runtime(
    observer: BusObserver, settings: BusSettings
) -> None:
    async with open_delegation_port(settings, runtime_id="r1"), open_clients(settings) as clients:
        key = f"mt:{settings.tenant}:{{s00}}:status:r1"
        await command(clients.commands, "SET", key, '{"v":"9.0"}', "PX", 60_000, key=key)
        seen = await until(observer, lambda seen: bool(seen.runtimes))
    assert [(each.runtime_id, each.is_alive, each.status) for each in seen.runtimes] == [("r1", True, None)]


async def test_every_shard_is_looked_at(settings: BusSettings, package: MakePackage) -> None:
    wide = replace(settings, shards=5)
    async with open_delegation_port(wide) as port, open_observer(wide) as observer:
        for number in range(20):
            await port.submit(package(f"t{number}", session_id=f"session-{number}"))
        seen = await observer.look()
    assert sum(each.waiting for each in seen.lanes) == 20
    assert {each.shard for each in seen.lanes if each.waiting} == set(range(5))


async def test_the_wrong_number_of_shards_is_told_with_the_right_one(settings: BusSettings) -> None:
    async with open_delegation_port(replace(settings, shards=3)), open_observer(settings) as observer:
        with pytest.raises(UnfitSettingsError, match="say --shards 3"):
            await observer.look()


async def test_a_tenants_rights_are_enough_to_look_and_another_tenant_is_not_seen(
    settings: BusSettings, server: EmbeddedServer
) -> None:
    name = f"looker-{settings.tenant}"
    async with open_clients(settings) as clients:
        rules = access_rules(settings.tenant).split()
        await command(clients.commands, "ACL", "SETUSER", name, "reset", "on", ">right", *rules)
    user = replace(settings, url=server.url.replace("unix://", f"unix://{name}:right@"))
    async with open_delegation_port(settings):
        async with open_observer(user) as observer:
            seen = await until(observer, lambda seen: bool(seen.runtimes))
            assert len(seen.runtimes) == 1
        async with open_observer(replace(user, tenant="another")) as observer:
            with pytest.raises(BusReplyError, match="refused to look at the bus"):
                await observer.look()


async def test_a_server_that_is_away_is_said_so() -> None:
    async with open_observer(BusSettings("redis://127.0.0.1:1", command_timeout_s=0.2)) as observer:
        with pytest.raises(BusUnreachableError, match="cannot look at the bus"):
            await observer.look()


@pytest.fixture
async def port_and_worker(settings: BusSettings) -> AsyncIterator[tuple[DelegationPort, WorkerPort]]:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        yield port, worker
