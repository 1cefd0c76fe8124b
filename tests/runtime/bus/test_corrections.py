"""Corrections: a task does not end on words that the user has corrected since."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent, EventKind
from microturn.runtime.bus import (
    BusEvent,
    BusSettings,
    DelegationPort,
    UpdateRefused,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.notes import correction_note, read_notes
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


def event(seq: int, kind: EventKind = "final", *, revision: int = 0) -> DelegationEvent:
    return DelegationEvent(task_id="a", attempt=1, seq=seq, kind=kind, revision=revision)


async def begin(worker: WorkerPort) -> None:
    assert await worker.begin(await worker.take()) is not None


async def take(port: DelegationPort, count: int) -> list[BusEvent]:
    with anyio.fail_after(5):
        return [await anext(port.events()) for _ in range(count)]


@pytest.mark.parametrize("kind", ["final", "failed"])
async def test_an_end_that_was_corrected_is_refused_and_its_number_stays_free(
    settings: BusSettings, package: MakePackage, kind: EventKind
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begin(worker)
        assert await port.update("a", "no, Paris") == "stored"
        refused = await worker.emit("a", 1, [event(1, kind)], finish=True)
        assert (refused.corrected, refused.updates, refused.fenced) == (True, ("no, Paris",), False)
        assert (await port.ledger("session")).promises[0].revision == 1
        again = await worker.emit("a", 1, [event(1, kind)], finish=True)
        assert (again.corrected, again.updates) == (True, ())
        assert not (await worker.emit("a", 1, [event(1, kind, revision=1)], finish=True)).corrected
        _, ended = await take(port, 2)
        assert isinstance(ended, DelegationEvent)
        assert (ended.seq, ended.kind, ended.revision) == (1, kind, 1)


async def test_what_is_no_answer_ends_a_corrected_task_and_partials_go_through(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begin(worker)
        await port.update("a", "no, Paris")
        assert not (await worker.emit("a", 1, [event(1, "partial")])).corrected
        assert not (await worker.emit("a", 1, [event(2, "cancelled")], finish=True)).corrected
        events = await take(port, 3)
        assert [each.kind for each in events if isinstance(each, DelegationEvent)] == [
            "accepted",
            "partial",
            "cancelled",
        ]


async def test_an_end_under_a_used_number_is_refused_too_where_it_was_corrected(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begin(worker)
        await worker.emit("a", 1, [event(1, "partial")])
        await port.update("a", "no, Paris")
        assert (await worker.emit("a", 1, [event(1)], finish=True)).corrected
        assert not (await worker.emit("a", 1, [event(1, revision=1)], finish=True)).corrected
        events = await take(port, 3)
        assert [each.seq for each in events if isinstance(each, DelegationEvent)] == [0, 1, 2]


async def test_an_end_that_was_sent_before_the_correction_stays_sent_when_it_is_repeated(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        await worker.emit("a", 1, [event(1)], finish=True)
        assert await port.update("a", "no, Paris") == "ended"
        _, _, delivered, _ = entry.entry_id.split("/")
        run = Scripts(clients.commands).run  # because the port forgets a task that it has ended
        keys = Keys(settings.tenant, 1).of_task(0, "a", port.runtime_id)
        repeated = (delivered, 1, 1, "last", 0, 0, 256, 1000, 1000, "final", event(1).encode())
        assert (await run("emit", keys, *repeated))[0] == "duplicate"
        assert await command(clients.commands, "XLEN", keys[1]) == 2


async def test_a_correction_that_comes_too_late_is_refused_visibly(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begin(worker)
        assert port.update_nowait("a", "in time")
        await port.flush()
        await worker.emit("a", 1, [event(1, revision=1)], finish=True)
        assert port.update_nowait("a", "too late")
        assert port.update_nowait("unheard-of", "anything")
        events = await take(port, 4)
        assert UpdateRefused("a") in events
        assert UpdateRefused("unheard-of") in events


async def test_only_corrections_count_towards_the_most_that_a_task_takes(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        keys = Keys(settings.tenant, 1)
        for seq in range(70):
            run = Scripts(clients.commands).run
            receipt = (
                f'{{"v":"1.0","task_id":"a","seq":{seq},"state":"heard","words_heard":1,"session_ms":0}}'
            )
            touched = [*keys.of_task(0, "a", port.runtime_id), *keys.of_session("session")]
            assert await run("receipt", touched, seq, receipt, 1000, 1000) == ["stored"]
        assert await port.update("a", "no, Paris") == "stored"
        told = await worker.beat(entry, 1)
        assert (len(told.receipts), told.updates) == (70, ("no, Paris",))


def test_a_note_that_cannot_be_read_is_left_out_and_the_others_keep_their_order() -> None:
    notes = [
        correction_note("one"),
        "no JSON",
        "7",
        "{}",
        '{"receipt":{"v":"9.0"}}',
        correction_note("zwei, süß"),
    ]
    read = read_notes(notes)
    assert (read.corrections, read.receipts) == (("one", "zwei, süß"), ())
