"""What becomes of tasks when the server is killed, loses its file, or has no more memory."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusSettings,
    BusUnreachableError,
    DelegationPort,
    EmbeddedServer,
    QueueFullError,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.raw import command
from tests.runtime.bus.extent import extent
from tests.runtime.bus.worker_processes import StartWorkers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


async def configure(settings: BusSettings, **values: str) -> None:
    async with open_clients(settings) as clients:
        for name, value in values.items():
            await command(clients.commands, "CONFIG", "SET", name.replace("_", "-"), value)


async def submit_until_killed(
    port: DelegationPort, make: MakePackage, accepted: list[str], name: str
) -> None:
    """Submit one task after another, and note which were accepted, until the server is gone."""
    number = 0
    while True:
        task_id = f"{name}-{number}"
        try:
            await port.submit(make(task_id, deadline_s=0.4))
        except BusUnreachableError:
            return
        accepted.append(task_id)
        number += 1


async def test_no_accepted_task_is_lost_when_the_server_is_killed_under_load(
    tmp_path: Path, package: MakePackage
) -> None:
    accepted: list[str] = []
    with EmbeddedServer(tmp_path, restart=False) as server:
        settings = BusSettings(server.url, command_timeout_s=0.5, queue_limit=100_000)
        async with anyio.create_task_group() as tasks, open_delegation_port(settings) as port:
            async with anyio.create_task_group() as load:
                for name in "abcdefgh":
                    load.start_soon(submit_until_killed, port, package, accepted, name)
                await anyio.sleep(extent(0.8, 4.0))
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
            tasks.cancel_scope.cancel()
    with EmbeddedServer(tmp_path) as server:
        async with open_clients(BusSettings(server.url)) as clients:
            found = await command(clients.commands, "KEYS", "mt:default:{s00}:t:*")
            stored = await command(clients.commands, "XLEN", "mt:default:{s00}:tasks")
    assert len(accepted) > 50
    assert isinstance(found, list)
    assert {f"mt:default:{{s00}}:t:{task_id}" for task_id in accepted} <= set(found)
    assert isinstance(stored, int)
    assert stored >= len(accepted)


async def test_a_server_that_keeps_no_file_is_warned_of_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(tmp_path) as server:
        settings = BusSettings(server.url)
        await configure(settings, appendonly="no")
        with caplog.at_level(logging.WARNING):
            async with open_delegation_port(settings):
                pass
    assert "keeps no append-only file: if it dies, delegated tasks are lost" in caplog.text


async def used_bytes(settings: BusSettings) -> int:
    async with open_clients(settings) as clients:
        info = str(await command(clients.commands, "INFO", "memory"))
    return int(next(line.split(":")[1] for line in info.splitlines() if line.startswith("used_memory:")))


@asynccontextmanager
async def full_server(
    tmp_path: Path, make: MakePackage
) -> AsyncIterator[tuple[DelegationPort, BusSettings, int]]:
    """A server whose memory is full of waiting tasks, and how many it has taken."""
    with EmbeddedServer(tmp_path, maxmemory_mb=6) as server:
        settings = BusSettings(server.url, lease_s=0.6, presence_s=0.1)
        async with open_delegation_port(settings) as port:
            count = 0
            with pytest.raises(QueueFullError, match="the server's memory is; start more workers"):
                while True:
                    await port.submit(make(f"t{count}", intent=f"stream 2 1 {'x' * 20_000}"))
                    count += 1
            await configure(settings, maxmemory=str(await used_bytes(settings) - 200_000))
            yield port, settings, count


async def test_workers_drain_a_server_whose_memory_is_full_of_waiting_tasks(
    tmp_path: Path, package: MakePackage
) -> None:
    async with (
        full_server(tmp_path, package) as (port, settings, count),
        open_worker_port(settings) as worker,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect, port, count)
            with anyio.fail_after(10):
                for _ in range(count):
                    entry = await worker.take()
                    begun = await worker.begin(entry)
                    assert begun is not None
                    event = DelegationEvent(
                        task_id=entry.package.task_id, attempt=1, seq=begun.next_seq, kind="final"
                    )
                    await worker.emit(event.task_id, 1, [event], finish=True)
        assert await port.submit(package("again")) == "accepted"


async def test_tasks_expire_and_are_cancelled_on_a_server_whose_memory_is_full(
    tmp_path: Path, package: MakePackage
) -> None:
    async with full_server(tmp_path, package) as (port, _, _):
        with anyio.fail_after(5):
            assert await port.cancel("t0", "enough") == "ended"


async def test_a_server_that_evicts_is_refused_by_both_sides(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        settings = BusSettings(server.url)
        await configure(settings, maxmemory_policy="allkeys-lru")
        for opening in (open_delegation_port(settings), open_worker_port(settings)):
            with pytest.raises(Exception, match="set it to 'noeviction'"):
                async with opening:
                    pass


async def test_events_wait_on_the_server_while_their_reader_is_slow_and_come_without_a_gap(
    settings: BusSettings, package: MakePackage
) -> None:
    """Nobody reads; the worker is told how many wait; then all of them come, in order, each once."""
    parts = extent(2_000, 30_000)
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a", deadline_s=600))
        assert await worker.begin(await worker.take()) is not None
        for seq in range(1, parts + 1):
            event = DelegationEvent(task_id="a", attempt=1, seq=seq, kind="partial", text=str(seq - 1))
            result = await worker.emit("a", 1, [event])
        assert result.backlog == parts + 1
        last = DelegationEvent(task_id="a", attempt=1, seq=parts + 1, kind="final")
        await worker.emit("a", 1, [last], finish=True)
        assert_whole((await collect(port, 1))["a"], parts)


async def test_a_full_queue_refuses_one_more_and_takes_it_once_a_task_has_ended(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    limit = extent(200, 10_000)
    crowded = replace(settings, queue_limit=limit)
    async with open_delegation_port(crowded) as port:
        for number in range(limit):
            assert await port.submit(package(f"t{number}", intent="stream 1 0", deadline_s=600)) == "accepted"
        with pytest.raises(QueueFullError, match=f"at its limit of {limit}"):
            await port.submit(package("extra"))
        start_workers(1, crowded)
        seen = await collect(port, 1)
        assert len(seen) >= 1
        with anyio.fail_after(5):
            assert await port.submit(package("later")) == "accepted"
