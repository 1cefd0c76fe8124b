"""The bell: a worker hears at once of a cancel, a correction and an answer, not only with its next sign of life."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import pytest

from microturn.background_agent import Control, Emit
from microturn.background_agent.attempt import Attempt
from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, Speech
from microturn.runtime.bus import BusSettings, DelegationPort, open_delegation_port, open_worker_port
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.worker_port import WorkerPort
from microturn.runtime.testing import Faults, FaultyLink
from microturn.tools import ToolRegistry

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
Tell = Callable[[DelegationPort], Awaitable[object]]
SOON_S = 0.5
"""Milliseconds on a machine with nothing else to do; far less than a quarter of the lease below."""
LEASE_S = 8.0
TOLD: dict[str, Tell] = {
    "cancel": lambda port: port.cancel("a", "enough"),
    "update": lambda port: port.update("a", "no, Paris"),
    "answer": lambda port: port.answer("a", 1, "yes"),
}


async def begun_by(worker: WorkerPort) -> tuple[TaskEntry, Begun]:
    with anyio.fail_after(5):
        entry = await worker.take()
        begun = await worker.begin(entry)
    assert begun is not None
    speech = Speech(text="Shall I?", kind="question")
    await worker.emit(
        entry.package.task_id,
        begun.attempt,
        [DelegationEvent(task_id=entry.package.task_id, attempt=1, seq=1, kind="partial", speech=speech)],
    )
    return entry, begun


@pytest.mark.parametrize("what", TOLD)
async def test_the_bell_rings_for_the_worker_that_runs_the_task_and_for_no_other(
    settings: BusSettings, package: MakePackage, what: str
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_worker_port(settings) as other,
        anyio.create_task_group() as tasks,
    ):
        await port.submit(package("a"))
        entry, _ = await begun_by(worker)
        await port.submit(package("b"))
        others, _ = await begun_by(other)
        rang: list[str] = []

        async def listen(who: WorkerPort, to: TaskEntry) -> None:
            await who.until_news(to, 1)
            rang.append(to.package.task_id)

        tasks.start_soon(listen, worker, entry)
        tasks.start_soon(listen, other, others)
        await anyio.sleep(0.2)
        assert rang == []
        await TOLD[what](port)
        with anyio.fail_after(SOON_S):
            while not rang:
                await anyio.sleep(0.005)
        await anyio.sleep(0.1)
        assert rang == ["a"]
        tasks.cancel_scope.cancel()


class Waits:
    """An engine that runs until it is cancelled."""

    def __init__(self) -> None:
        self.runs = anyio.Event()

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        self.runs.set()
        await anyio.sleep_forever()


@pytest.mark.parametrize("pause_s", [0.0, 0.15])
async def test_a_cancel_reaches_a_running_engine_long_before_its_next_beat(
    settings: BusSettings, package: MakePackage, pause_s: float
) -> None:
    settings = replace(settings, lease_s=LEASE_S)
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry, begun = await begun_by(worker)
        engine = Waits()
        attempt = Attempt(worker, entry, replace(begun, next_seq=2), lease_s=LEASE_S, backlog_limit=500)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt.run, engine, ToolRegistry())
            await engine.runs.wait()
            await anyio.sleep(0.1 + pause_s)
            began_s = anyio.current_time()
            assert await port.cancel("a", "enough") == "asked"
        assert anyio.current_time() - began_s < SOON_S


async def test_the_bell_is_heard_again_after_an_outage(settings: BusSettings, package: MakePackage) -> None:
    with FaultyLink(settings.url) as link:
        async with (
            open_delegation_port(settings) as port,
            open_worker_port(replace(settings, url=link.url)) as worker,
        ):
            await port.submit(package("a"))
            entry, _ = await begun_by(worker)
            link.set(Faults(cut=True))
            await anyio.sleep(0.2)
            link.heal()

            async def ring() -> None:
                for number in itertools.count(1):  # what rings before the worker listens again is not heard
                    await anyio.sleep(0.2)
                    await port.update("a", f"no, {number}")

            with anyio.fail_after(10):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ring)
                    await worker.until_news(entry, 1)
                    tasks.cancel_scope.cancel()


async def test_nothing_of_the_bell_is_kept_for_long(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begun_by(worker)
        await port.answer("a", 1, "yes")
        bell = Keys(settings.tenant, settings.shards).bell(0)
        async with open_clients(settings) as clients:
            left_ms = await command(clients.commands, "PTTL", bell)
    assert isinstance(left_ms, int)
    assert 0 < left_ms <= 3_600_000
