"""The bus on a cluster of three: every shard is served, wherever it is, and one that is away stops no other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from redis.crc import key_slot

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, UnfitServerError, open_delegation_port, open_worker_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from tests.runtime.bus.server_processes import (
    SLOTS,
    ServerProcess,
    cluster_of,
    is_whole,
    replica_of,
    wait_for,
)
from tests.runtime.bus.worker_processes import Workers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
SHARDS = 6


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    with cluster_of(tmp_path_factory.mktemp("cluster"), 3) as running:
        yield running


@pytest.fixture
def settings(nodes: list[ServerProcess], request: pytest.FixtureRequest) -> BusSettings:
    """Only two of the nodes are named; the third has to be found."""
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])
    tenant = request.node.name[:60]
    return BusSettings(f"redis+cluster://{hosts}", tenant=tenant, shards=SHARDS, lease_s=0.6, presence_s=0.1)


def session_on(shard: int) -> str:
    """A session that lives on a shard."""
    keys = Keys("any", SHARDS)
    return next(name for name in (f"session-{n}" for n in range(1000)) if keys.shard_of(name) == shard)


def shards_on(node: ServerProcess, nodes: list[ServerProcess]) -> set[int]:
    """The shards whose slot a node has; the nodes share the slots evenly, in their order."""
    of_node = {shard: key_slot(f"{{s{shard:02d}}}".encode()) * len(nodes) // SLOTS for shard in range(SHARDS)}
    return {shard for shard, number in of_node.items() if nodes[number] is node}


async def test_the_shards_are_on_several_nodes(settings: BusSettings) -> None:
    keys = Keys(settings.tenant, SHARDS)
    async with open_clients(settings) as clients:
        replies = await clients.commands.each_primary("CLUSTER", "MYID")
        assert len(replies) == 3
        routes = {clients.commands.route(keys.tasks(shard)) for shard in range(SHARDS)}
        assert len(routes) == SHARDS


async def test_a_picture_lives_where_its_task_does(settings: BusSettings, package: MakePackage) -> None:
    picture = bytes(range(256))
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        for shard in range(SHARDS):
            session_id = session_on(shard)
            reference = port.keep_nowait(session_id, picture + bytes([shard]), "image/png", 0)
            assert reference is not None
            assert f"{{s{shard:02d}}}" in reference.key
            await port.submit(
                package(f"t{shard}", session_id=session_id).model_copy(update={"key_frames": (reference,)})
            )
        seen: set[bytes] = set()
        with anyio.fail_after(10):
            for _ in range(SHARDS):
                entry = await worker.take()
                seen.add(await worker.load(entry, entry.package.key_frames[0]))
        assert seen == {picture + bytes([shard]) for shard in range(SHARDS)}


async def test_a_task_in_every_shard_brings_its_parts_in_order_and_goes_on_when_its_worker_is_killed(
    settings: BusSettings, package: MakePackage
) -> None:
    workers = await anyio.to_thread.run_sync(Workers, settings, 3)
    try:
        async with open_delegation_port(settings) as port:
            for shard in range(SHARDS):
                await port.submit(package(f"t{shard}", session_id=session_on(shard), intent="stream 12 120"))
            os.kill(await workers.said("begun", "t0", "1"), signal.SIGKILL)
            seen = await collect(port, SHARDS)
            assert port.health.state == "ok"
            with anyio.fail_after(3):
                while port.health.workers != 2:
                    await anyio.sleep(0.02)
        for events in seen.values():
            assert_whole(events, 12)
        assert seen["t0"][-1].attempt == 2
    finally:
        workers.end()


async def test_updates_cancels_and_acknowledgements_reach_every_shard(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        for shard in range(SHARDS):
            await port.submit(package(f"t{shard}", session_id=session_on(shard)))
        for _ in range(SHARDS):
            entry = await worker.take()
            begun = await worker.begin(entry)
            assert begun is not None
            task_id = entry.package.task_id
            assert await port.update(task_id, "make it two") == "stored"
            assert (await worker.beat(entry, begun.attempt)).updates == ("make it two",)
            assert await port.cancel(task_id, "enough") == "asked"
            cancelled = DelegationEvent(task_id=task_id, attempt=1, seq=1, kind="cancelled")
            await worker.emit(task_id, 1, [cancelled], finish=True)
        seen = await collect(port, SHARDS)
        assert {events[-1].kind for events in seen.values()} == {"cancelled"}


async def test_a_session_moves_to_another_runtime_with_its_promises(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as first,
        open_delegation_port(settings) as second,
        open_worker_port(settings) as worker,
    ):
        for shard in range(SHARDS):
            first.enter_nowait(session_on(shard), 0.0)
            await first.submit(package(f"t{shard}", session_id=session_on(shard)))
            ledger = await second.reopen(session_on(shard))
            assert [promise.task_id for promise in ledger.promises] == [f"t{shard}"]
            assert await worker.begin(await worker.take()) is not None
            final = DelegationEvent(task_id=f"t{shard}", attempt=1, seq=1, kind="final")
            await worker.emit(f"t{shard}", 1, [final], finish=True)
        with anyio.fail_after(5):
            ended: set[str] = set()
            async for event in second.events():
                assert isinstance(event, DelegationEvent)
                if event.is_terminal:
                    ended.add(event.task_id)
                if len(ended) == SHARDS:
                    break


async def test_many_calls_at_once_reach_their_own_nodes(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        async with anyio.create_task_group() as tasks:
            for number in range(120):
                tasks.start_soon(port.submit, package(f"t{number}", session_id=f"session-{number}"))
        taken = {(await worker.take()).package.task_id for _ in range(120)}
        assert taken == {f"t{number}" for number in range(120)}


@pytest.mark.parametrize("how", ["killed", pytest.param("frozen", marks=pytest.mark.slow)])
async def test_a_node_that_is_away_stops_only_its_own_shards_and_loses_nothing(
    settings: BusSettings, package: MakePackage, nodes: list[ServerProcess], how: str
) -> None:
    end, begin = (nodes[2].kill, nodes[2].start) if how == "killed" else (nodes[2].pause, nodes[2].resume)
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        for shard in range(SHARDS):
            await port.submit(package(f"t{shard}", session_id=session_on(shard), deadline_s=60))
        await anyio.to_thread.run_sync(end)
        away = shards_on(nodes[2], nodes)
        assert 0 < len(away) < SHARDS
        taken: set[str] = set()
        with anyio.fail_after(3 + settings.command_timeout_s * len(away)):
            while len(taken) < SHARDS - len(away):
                taken.add((await worker.take()).package.task_id)
        assert taken == {f"t{shard}" for shard in range(SHARDS) if shard not in away}
        begin()
        await anyio.to_thread.run_sync(wait_for, lambda: is_whole(nodes[0], 3), "the node did not come back")
        with anyio.fail_after(10):
            while len(taken) < SHARDS:
                taken.add((await worker.take()).package.task_id)


async def test_each_primary_is_looked_at(settings: BusSettings, nodes: list[ServerProcess]) -> None:
    nodes[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(UnfitServerError, match=f"127.0.0.1:{nodes[2].port}.*'allkeys-lru'"):
            async with open_worker_port(settings):
                pass
    finally:
        nodes[2].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.slow
async def test_tasks_go_on_when_a_primary_is_killed_and_its_replica_takes_its_place(
    settings: BusSettings, package: MakePackage, nodes: list[ServerProcess], tmp_path: Path
) -> None:
    with replica_of(nodes[2], tmp_path / "replica") as replica:
        workers = await anyio.to_thread.run_sync(Workers, settings, 2)
        try:
            async with open_delegation_port(settings) as port:
                for shard in range(SHARDS):
                    await port.submit(
                        package(f"t{shard}", session_id=session_on(shard), intent="stream 20 50")
                    )
                await anyio.sleep(0.4)  # in the middle of their parts
                await anyio.to_thread.run_sync(nodes[2].kill)
                with anyio.fail_after(15):
                    seen = await collect(port, SHARDS)
            for events in seen.values():
                assert [event.kind for event in events][-1] == "final"
                assert [event.seq for event in events] == list(range(len(events)))
        finally:
            workers.end()
        assert "role:master" in replica.ask("INFO", "replication")
