"""Several events in one call: in their order, each once however often the call is made, and an end that may be refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from microturn.background_agent import TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, EventKind
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


@dataclass(frozen=True, slots=True)
class Run:
    """A task `a` that a worker has begun."""

    port: DelegationPort
    worker: WorkerPort
    entry: TaskEntry
    settings: BusSettings

    async def seen(self, count: int) -> list[tuple[int, str]]:
        """Number and text of the next events that the runtime is given."""
        events = [await anext(self.port.events()) for _ in range(count)]
        return [(event.seq, event.text) for event in events if isinstance(event, DelegationEvent)]

    async def repeat(self, *events: DelegationEvent, last: str = "") -> list[str]:
        """Make a call once more as after a lost reply, also when the port has forgotten the task."""
        _, _, delivered, _ = self.entry.entry_id.split("/")
        keys = Keys(self.settings.tenant, 1).of_task(0, "a", self.port.runtime_id)
        words = [word for event in events for word in (event.kind, event.encode())]
        head = (delivered, 1, events[0].seq, last, events[-1].revision, 0, 256, 60_000, 60_000)
        async with open_clients(self.settings) as clients:
            return await Scripts(clients.commands).run("emit", keys, *head, *words)

    async def journal(self) -> int:
        """How many records of tool calls are stored."""
        async with open_clients(self.settings) as clients:
            keys = Keys(self.settings.tenant, 1).of_task(0, "a", self.port.runtime_id)
            return int(str(await command(clients.commands, "LLEN", keys[6])))


@asynccontextmanager
async def running(settings: BusSettings, package: MakePackage) -> AsyncIterator[Run]:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        yield Run(port, worker, entry, settings)


def event(seq: int, kind: EventKind = "partial", *, revision: int = 0) -> DelegationEvent:
    return DelegationEvent(
        task_id="a", attempt=1, seq=seq, kind=kind, text=f"{kind} {seq}", revision=revision
    )


async def test_events_of_one_call_come_one_by_one_in_their_order_and_the_last_ends_the_task(
    settings: BusSettings, package: MakePackage
) -> None:
    async with running(settings, package) as run:
        first = await run.worker.emit("a", 1, [event(1), event(2, "tool_started"), event(3, "progress")])
        assert (first.duplicate, first.fenced, first.backlog) == (False, False, 4)
        end = [event(4, "tool_finished"), event(5), event(6, "final")]
        assert not (await run.worker.emit("a", 1, end, finish=True)).fenced
        assert [seq for seq, _ in await run.seen(7)] == list(range(7))
        assert await run.journal() == 2
        again = await run.repeat(*end, last="last")
        assert again[0] == "duplicate"
        assert (await run.repeat(event(7)))[0] == "fenced"


async def test_of_a_call_that_overlaps_an_earlier_one_only_what_is_new_is_sent(
    settings: BusSettings, package: MakePackage
) -> None:
    async with running(settings, package) as run:
        await run.worker.emit("a", 1, [event(1), event(2, "tool_started")])
        result = await run.worker.emit("a", 1, [event(1), event(2, "tool_started"), event(3)])
        assert (result.duplicate, result.backlog) == (False, 4)
        assert (await run.worker.emit("a", 1, [event(2, "tool_started"), event(3)])).duplicate
        assert await run.seen(4) == [(0, ""), (1, "partial 1"), (2, "tool_started 2"), (3, "partial 3")]
        assert await run.journal() == 1


@pytest.mark.parametrize("kind", ["final", "failed"])
async def test_what_comes_before_an_end_that_heeds_no_correction_is_sent_once_and_the_end_not(
    settings: BusSettings, package: MakePackage, kind: EventKind
) -> None:
    async with running(settings, package) as run:
        await run.port.update("a", "no, Paris")
        refused = await run.worker.emit("a", 1, [event(1), event(2), event(3, kind)], finish=True)
        assert (refused.corrected, refused.updates) == (True, ("no, Paris",))
        for _ in range(2):  # as when the answer was lost
            again = await run.worker.emit("a", 1, [event(1), event(2), event(3, kind)], finish=True)
            assert (again.corrected, again.duplicate, again.backlog) == (True, False, 3)
        heeded = await run.worker.emit("a", 1, [event(3), event(4, kind, revision=1)], finish=True)
        assert not heeded.corrected
        assert await run.seen(5) == [
            (0, ""),
            (1, "partial 1"),
            (2, "partial 2"),
            (3, "partial 3"),
            (4, f"{kind} 4"),
        ]


async def test_an_end_whose_number_was_used_gets_the_next_one_and_what_came_with_it_is_not_sent_twice(
    settings: BusSettings, package: MakePackage
) -> None:
    async with running(settings, package) as run:
        await run.worker.emit("a", 1, [event(1), event(2), event(3)])
        result = await run.worker.emit("a", 1, [event(2), event(3, "final")], finish=True)
        assert not (result.duplicate or result.fenced)
        assert await run.seen(5) == [
            (0, ""),
            (1, "partial 1"),
            (2, "partial 2"),
            (3, "partial 3"),
            (4, "final 3"),
        ]


async def test_a_server_without_memory_takes_an_end_and_what_comes_with_it(
    settings: BusSettings, package: MakePackage
) -> None:
    async with running(settings, package) as run, open_clients(settings) as clients:
        await command(clients.commands, "CONFIG", "SET", "maxmemory", "1")
        try:
            result = await run.worker.emit("a", 1, [event(1), event(2, "final")], finish=True)
        finally:
            await command(clients.commands, "CONFIG", "SET", "maxmemory", "256mb")
        assert not result.fenced
        assert [seq for seq, _ in await run.seen(3)] == [0, 1, 2]
