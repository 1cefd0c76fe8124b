"""What is promised when processes die: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.testing import Faults, FaultyLink
from tests.runtime.bus.worker_processes import StartWorkers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


async def test_a_killed_worker_is_replaced_and_the_task_goes_on_where_it_was(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    workers = start_workers(2)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", intent="stream 10 50"))
        first = await workers.said("begun", "a", "1")
        events: list[DelegationEvent] = []
        arrived_s: list[float] = []
        async for event in port.events():
            assert isinstance(event, DelegationEvent)
            events.append(event)
            arrived_s.append(time.monotonic())
            if event.seq == 4:
                os.kill(first, signal.SIGKILL)
            if event.is_terminal:
                break
        assert_whole(events, 10)
        assert {event.attempt for event in events} == {0, 1, 2}
        # The promise is lease + 0.5 s, which the benchmark measures; a busy machine is given more here.
        assert max(late - early for early, late in pairwise(arrived_s)) < settings.lease_s + 2.5
        assert await workers.said("ended", "a", "final") != first


async def test_a_worker_that_wakes_from_a_long_stop_cannot_speak_for_its_task(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    workers = start_workers(2)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", intent="stream 20 50"))
        first = await workers.said("begun", "a", "1")
        os.kill(first, signal.SIGSTOP)
        assert await workers.said("begun", "a", "2") != first
        os.kill(first, signal.SIGCONT)
        assert await workers.said("ended", "a", "fenced") == first
        seen = await collect(port, 1)
        assert_whole(seen["a"], 20)


async def test_a_package_that_kills_its_workers_is_given_up_after_three(
    settings: BusSettings, package: MakePackage, start_workers: StartWorkers
) -> None:
    start_workers(4)
    async with open_delegation_port(settings) as port:
        await port.submit(package("poison", intent="die"))
        await port.submit(package("good", intent="stream 5 10"))
        seen = await collect(port, 2)
        assert_whole(seen["good"], 5)
        assert [(event.kind, event.seq) for event in seen["poison"]] == [("accepted", 0), ("dead", 1)]
        assert seen["poison"][-1].detail == {"reason": "attempts"}
        async with open_clients(settings) as clients:
            tasks = f"mt:{settings.tenant}:{{s00}}:tasks"
            assert await command(clients.commands, "XLEN", tasks) == 0
            pending = await command(clients.commands, "XPENDING", tasks, "w")
            assert isinstance(pending, list)
            assert pending[0] == 0
            assert await command(clients.commands, "XLEN", f"mt:{settings.tenant}:{{s00}}:dead") == 1


async def test_nothing_is_lost_or_twice_when_the_server_is_killed_and_comes_back(
    tmp_path: Path, package: MakePackage, start_workers: StartWorkers
) -> None:
    with EmbeddedServer(tmp_path) as server:
        settings = BusSettings(server.url, lease_s=2.0, presence_s=0.1)
        start_workers(2, settings)
        async with open_delegation_port(settings) as port:
            for number in range(20):
                assert port.submit_nowait(package(f"t{number}", intent="stream 30 30"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_soon, server)
                seen = await collect(port, 20)
        assert len(seen) == 20
        for events in seen.values():
            assert_whole(events, 30)


async def kill_soon(server: EmbeddedServer) -> None:
    """Kill the server in mid-stream; it is started again by its keeper."""
    await anyio.sleep(0.4)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)


async def test_all_is_done_exactly_once_when_every_tenth_reply_is_lost(
    settings: BusSettings, package: MakePackage, server: EmbeddedServer, start_workers: StartWorkers
) -> None:
    with FaultyLink(server.url) as link:
        link.set(Faults(drop_every=10))
        lossy = replace(settings, url=link.url, lease_s=1.0)
        await anyio.to_thread.run_sync(start_workers, 1, lossy)
        async with open_delegation_port(lossy) as port:
            for number in range(40):
                assert port.submit_nowait(package(f"t{number}", intent="stream 10 5"))
            seen = await collect(port, 40)
    assert link.counters.dropped > 30
    assert len(seen) == 40
    for events in seen.values():
        assert_whole(events, 10)


async def test_the_messages_of_a_failure_hold_nothing_that_was_said(
    settings: BusSettings, package: MakePackage, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_delegation_port(settings) as port:
        with caplog.at_level(0):
            await port.submit(package("a", intent="a secret wish", deadline_s=0.05))
            await port.update("a", "a secret change")
            await collect(port, 1)
    assert not re.search("secret", caplog.text)


async def test_what_is_acknowledged_again_while_it_is_stored_does_no_harm(
    settings: BusSettings, package: MakePackage, server: EmbeddedServer
) -> None:
    with FaultyLink(server.url) as link:
        async with open_delegation_port(replace(settings, url=link.url)) as port:
            await port.submit(package("a"))
            async for event in port.events():
                assert isinstance(event, DelegationEvent)
                break
            link.set(Faults(delay_s=0.1))
            for _ in range(4):
                port.acknowledge_nowait("a", 0)
                await anyio.sleep(0.04)
            link.heal()
            with anyio.fail_after(3):
                await port.acknowledge("a", 0)
                assert await port.submit(package("b")) == "accepted"


async def test_the_end_of_a_task_that_stands_in_the_ledger_is_not_given_again_when_it_is_read_late(
    settings: BusSettings, package: MakePackage
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with (
        open_delegation_port(settings) as old,
        open_delegation_port(settings) as new,
        open_clients(settings) as clients,
    ):
        await old.submit(package("a"))
        assert await old.cancel("a", "enough") == "ended"
        [promise] = (await new.reopen("session")).promises
        inbox = keys.inbox(0, new.runtime_id)
        await command(clients.commands, "XADD", inbox, "*", "event", promise.events[-1].encode())
        with anyio.fail_after(3):
            while await command(clients.commands, "XLEN", inbox):
                await anyio.sleep(0.01)
        await new.submit(package("b"))
        async for event in new.events():
            assert isinstance(event, DelegationEvent)
            assert event.task_id == "b"
            break
