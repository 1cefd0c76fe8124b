"""Which task a worker takes, and that what it takes too much of goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from microturn.background_agent.worker_bus import TaskEntry
from microturn.protocols import ContextPackage
from microturn.runtime.bus import (
    BusSettings,
    EmbeddedServer,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.queue_route import QueueRoute
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts
from microturn.runtime.testing import Faults, FaultyLink

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


class Taking:
    """A call of `take` under way, and what came of it."""

    def __init__(self, worker: WorkerPort, *, urgent_only: bool = False) -> None:
        self._worker = worker
        self._urgent_only = urgent_only
        self.scope = anyio.CancelScope()
        self.taken: TaskEntry | None = None
        self.done = anyio.Event()

    async def run(self) -> None:
        with self.scope:
            self.taken = await self._worker.take(urgent_only=self._urgent_only)
        self.done.set()


async def take(worker: WorkerPort, *, urgent_only: bool = False) -> str:
    with anyio.fail_after(5):
        return (await worker.take(urgent_only=urgent_only)).package.task_id


async def test_urgent_tasks_are_taken_first_and_the_others_in_their_order(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        for name in ("a", "b", "c"):
            await port.submit(package(name))
        await port.submit(package("now", urgent=True))
        entry = await worker.take()
        assert entry.package.task_id == "now"
        assert "/urgent/" in entry.entry_id
        assert await worker.begin(entry) is not None
        assert [await take(worker) for _ in range(3)] == ["a", "b", "c"]


async def test_one_who_asks_for_urgent_tasks_only_is_given_no_other(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        anyio.create_task_group() as tasks,
    ):
        urgent = Taking(worker, urgent_only=True)
        tasks.start_soon(urgent.run)
        await port.submit(package("a"))
        assert await take(worker) == "a"
        await anyio.sleep(settings.lease_s / 2)
        assert not urgent.done.is_set()
        await port.submit(package("now", urgent=True))
        with anyio.fail_after(2):
            await urgent.done.wait()
        assert urgent.taken is not None
        assert urgent.taken.package.task_id == "now"


async def test_an_urgent_task_whose_worker_died_is_taken_over_by_one_who_asks_for_urgent_only(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as silent,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("plain"))
        await port.submit(package("now", urgent=True))
        for _ in range(2):
            assert await silent.begin(await silent.take()) is not None
        assert await take(other, urgent_only=True) == "now"
        assert await take(other) == "plain"


async def test_what_comes_in_after_a_take_was_cancelled_goes_to_another_before_the_lease_ends(
    settings: BusSettings, package: MakePackage
) -> None:
    patient = replace(settings, lease_s=8.0)
    async with (
        open_delegation_port(patient) as port,
        open_worker_port(patient) as drained,
        open_worker_port(patient) as other,
        anyio.create_task_group() as tasks,
    ):
        taking = Taking(drained)
        tasks.start_soon(taking.run)
        await anyio.sleep(0.1)  # its reader waits on the server now, before the other's
        taking.scope.cancel()
        await taking.done.wait()
        await port.submit(package("a"))
        assert await take(other) == "a"
        assert taking.taken is None


async def test_a_worker_that_asks_for_nothing_takes_nothing(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        for name in ("a", "b", "c"):
            await port.submit(package(name))
        assert await take(worker) == "a"
        await anyio.sleep(settings.lease_s / 2)
        stream = Keys(settings.tenant, 1).tasks(0)
        pending = await command(clients.commands, "XPENDING", stream, "w")
        assert isinstance(pending, list)
        assert pending[0] == 1


async def test_callers_who_wait_at_the_same_time_each_get_a_task(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        async with anyio.create_task_group() as tasks:
            takings = [Taking(worker) for _ in range(4)]
            for taking in takings:
                tasks.start_soon(taking.run)
            await anyio.sleep(0.05)
            for number in range(4):
                await port.submit(package(f"t{number}"))
            with anyio.fail_after(5):
                for taking in takings:
                    await taking.done.wait()
        names = {taking.taken.package.task_id for taking in takings if taking.taken is not None}
        assert names == {"t0", "t1", "t2", "t3"}


async def test_no_shard_starves_another(settings: BusSettings, package: MakePackage) -> None:
    spread = replace(settings, shards=3)
    keys = Keys(settings.tenant, 3)
    async with open_delegation_port(spread) as port, open_worker_port(spread) as worker:
        sessions = {keys.shard_of(f"s{number}"): f"s{number}" for number in range(100)}
        for number in range(20):
            await port.submit(package(f"busy{number}", session_id=sessions[0]))
        for shard in (1, 2):
            await port.submit(package(f"quiet{shard}", session_id=sessions[shard]))
        first = [await take(worker) for _ in range(6)]
        assert {"quiet1", "quiet2"} < set(first)


async def test_what_a_read_brings_too_much_is_there_for_the_next_sweep(
    settings: BusSettings, package: MakePackage
) -> None:
    patient = replace(settings, lease_s=8.0, shards=2)
    keys = Keys(settings.tenant, 2)
    async with (
        open_delegation_port(patient) as port,
        open_worker_port(patient, worker_id="reader") as worker,
        open_clients(patient) as clients,
    ):
        sessions = {keys.shard_of(f"s{number}"): f"s{number}" for number in range(100)}
        for shard in range(2):
            await port.submit(package(f"t{shard}", session_id=sessions[shard]))
        scripts = Scripts(clients.commands)
        streams = [keys.tasks(shard) for shard in range(2)]
        route = QueueRoute(clients, scripts, patient, [streams], worker_id="reader", enter=worker.enter)
        found = await route.read()
        assert {one.stream for one in found} == set(streams)
        await scripts.run("release", [found[1].stream], "reader", patient.lease_ms, found[1].entry)
        assert await route.sweep() == found[1]


async def test_a_worker_that_waits_through_an_outage_does_next_to_nothing(
    settings: BusSettings, server: EmbeddedServer, package: MakePackage
) -> None:
    with FaultyLink(server.url) as link:
        short = replace(settings, url=link.url, lease_s=0.2, command_timeout_s=0.2)
        async with open_worker_port(short) as worker, anyio.create_task_group() as tasks:
            taking = Taking(worker)
            tasks.start_soon(taking.run)
            await anyio.sleep(0.1)
            link.set(Faults(cut=True))
            await anyio.sleep(0.5)  # longer than a lease, after which a look would be due
            before_s = time.process_time()
            await anyio.sleep(1.0)
            assert time.process_time() - before_s < 0.15
            link.heal()
            async with open_delegation_port(settings) as port:
                await port.submit(package("a"))
                with anyio.fail_after(5):
                    await taking.done.wait()


async def test_a_worker_waits_while_the_server_has_too_few_replicas_to_store_anything(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
        anyio.create_task_group() as tasks,
    ):
        await port.submit(package("a"))
        taking = Taking(worker)
        await command(clients.commands, "CONFIG", "SET", "min-replicas-to-write", "1")
        try:
            tasks.start_soon(taking.run)
            await anyio.sleep(settings.lease_s / 2)
            assert not taking.done.is_set()
        finally:
            await command(clients.commands, "CONFIG", "SET", "min-replicas-to-write", "0")
        with anyio.fail_after(5):
            await taking.done.wait()
        assert taking.taken is not None
        assert await worker.begin(taking.taken) is not None
