"""A task that nobody wants any more stops soon, whatever its worker is doing. The limits leave room for a busy machine;
the promise is a quarter of a lease and 0.1 s."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import anyio
import pytest

from microturn.protocols import ContextPackage
from microturn.runtime.bus import BusSettings, open_delegation_port
from tests.runtime.bus.worker_processes import StartWorkers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
SOON_S = 2.5


async def test_a_streaming_task_stops_when_it_is_cancelled(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    workers = start_workers(1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", intent="stream 1000 20"))
        await workers.said("begun", "a", "1")
        with anyio.fail_after(SOON_S):
            assert await port.cancel("a", "enough") == "asked"
            seen = await collect(port, 1)
            await workers.said("ended", "a", "cancelled")
        assert seen["a"][-1].kind == "cancelled"
        assert len(seen["a"]) < 200


async def test_a_tool_that_says_nothing_is_stopped_by_the_next_beat(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    workers = start_workers(1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", intent="silent 20000"))
        await workers.said("begun", "a", "1")
        with anyio.fail_after(SOON_S):
            assert await port.cancel("a", "enough") == "asked"
            seen = await collect(port, 1)
            await workers.said("ended", "a", "cancelled")
        assert [event.kind for event in seen["a"]] == ["accepted", "cancelled"]


async def test_a_waiting_task_that_is_cancelled_is_never_begun(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    async with open_delegation_port(settings) as port:
        await port.submit(package("unwanted", intent="stream 1 1"))
        await port.submit(package("wanted", intent="stream 1 1"))
        with anyio.fail_after(SOON_S):
            assert await port.cancel("unwanted", "enough") == "ended"
            before = await collect(port, 1)
        assert [event.kind for event in before["unwanted"]] == ["accepted", "cancelled"]
        workers = await anyio.to_thread.run_sync(start_workers, 1)
        after = await collect(port, 1)
        assert_whole([*before["wanted"], *after["wanted"]], 1)
        assert "unwanted" not in {word for line in workers.end() for word in line}


async def test_a_task_whose_worker_was_stopped_is_cancelled_once_its_lease_is_over(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    workers = start_workers(1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", intent="stream 1000 20"))
        worker = await workers.said("begun", "a", "1")
        os.kill(worker, signal.SIGSTOP)
        await anyio.sleep(settings.lease_s + 0.1)
        with anyio.fail_after(SOON_S):
            assert await port.cancel("a", "enough") == "ended"
            seen = await collect(port, 1)
        assert seen["a"][-1].kind == "cancelled"
        os.kill(worker, signal.SIGCONT)
        assert await workers.said("ended", "a", "fenced") == worker
