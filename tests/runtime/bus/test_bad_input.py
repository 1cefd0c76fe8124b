"""What cannot be read, in every stream, list and hash, costs its own task at most; a server that misbehaves costs time."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, Receipt
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    EmbeddedServer,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.testing import Faults, FaultyLink
from tests.runtime.bus.worker_processes import StartWorkers, assert_whole, collect

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]

GOOD = json.loads(
    ContextPackage(
        task_id="bad",
        session_id="session",
        idempotency_key="bad",
        intent="look it up",
        said_start_ms=0,
        said_end_ms=400,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=30,
    ).encode()
)
PACKAGES = {
    "nothing": "",
    "no JSON": "{{{",
    "cut off": json.dumps(GOOD)[:100],
    "not an object": "[1, 2]",
    "a wrong type": json.dumps({**GOOD, "deadline_s": "soon"}),
    "a future version": json.dumps({**GOOD, "v": "9.0"}),
    "a hostile task id": json.dumps({**GOOD, "task_id": "x}:t:good"}),
    "no number": json.dumps({**GOOD, "deadline_s": float("nan")}),
    "very deep": "[" * 20_000 + "]" * 20_000,
    "very large": json.dumps({**GOOD, "v": "9.0", "intent": "x" * 2_000_000}),
    "no text": "\udcff\udcfe",
}
EVENTS = {
    "nothing": "",
    "no JSON": "}",
    "not an object": "3",
    "a future version": json.dumps({"v": "9.0", "task_id": "a", "attempt": 1, "seq": 0, "kind": "partial"}),
    "an unknown kind": json.dumps({"v": "1.1", "task_id": "a", "attempt": 1, "seq": 0, "kind": "shout"}),
    "a hostile task": json.dumps({"v": "1.1", "task_id": "x}:t", "attempt": 1, "seq": 1, "kind": "final"}),
    "an endless number": json.dumps(
        {"v": "1.1", "task_id": "a", "attempt": 1, "seq": 10**40, "kind": "partial"}
    ),
    "a task that nobody has": json.dumps(
        {"v": "1.1", "task_id": "ghost", "attempt": 1, "seq": 1, "kind": "final"}
    ),
}
JUNK = ("", "{", "[]", "7", '"text"', '{"v": "9.0"}', "\x00\x01")


async def begin(worker: WorkerPort) -> tuple[TaskEntry, Begun]:
    with anyio.fail_after(5):
        entry = await worker.take()
    begun = await worker.begin(entry)
    assert begun is not None
    return entry, begun


async def finish(worker: WorkerPort, task_id: str, begun: Begun) -> None:
    event = DelegationEvent(task_id=task_id, attempt=begun.attempt, seq=begun.next_seq, kind="final")
    assert not (await worker.emit(task_id, begun.attempt, [event], finish=True)).fenced


async def ended(port: DelegationPort, task_id: str) -> DelegationEvent:
    """The terminal event of a task."""
    with anyio.fail_after(5):
        async for event in port.events():
            if isinstance(event, DelegationEvent) and event.task_id == task_id and event.is_terminal:
                return event
    raise AssertionError("the events have ended")


@pytest.mark.parametrize("lane", ["tasks", "urgent"])
async def test_a_package_that_cannot_be_read_is_given_up_and_the_next_one_is_run(
    settings: BusSettings, package: MakePackage, lane: str
) -> None:
    keys = Keys(settings.tenant, 1)
    stream = keys.lane(0, "urgent" if lane == "urgent" else "tasks")
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        for name, encoded in PACKAGES.items():
            fields = ("task", name.replace(" ", "-"), "rt", port.runtime_id, "v", "1.1", "package", encoded)
            await command(clients.commands, "XADD", stream, "*", *map(_raw, fields))
        await command(clients.commands, "XADD", stream, "*", "neither", "x")
        hostile = ("rt", "}:hostile", "package", json.dumps(GOOD))
        await command(clients.commands, "XADD", stream, "*", *hostile)
        await port.submit(package("good", urgent=lane == "urgent"))
        entry, begun = await begin(worker)
        assert entry.package.task_id == "good"
        await finish(worker, "good", begun)
        assert (await ended(port, "good")).kind == "final"
        assert await command(clients.commands, "XLEN", stream) == 0
        assert await command(clients.commands, "XLEN", keys.dead(0)) == len(PACKAGES) + 2


async def test_an_event_that_cannot_be_read_is_passed_over(
    settings: BusSettings, package: MakePackage
) -> None:
    keys = Keys(settings.tenant, 1)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("good"))
        inbox = keys.inbox(0, port.runtime_id)
        for encoded in EVENTS.values():
            await command(clients.commands, "XADD", inbox, "*", "event", encoded)
        await command(clients.commands, "XADD", inbox, "*", "neither", "x")
        await command(clients.commands, "XADD", inbox, "*", "moved", "nobody", "epoch", "soon")
        entry, begun = await begin(worker)
        await finish(worker, entry.package.task_id, begun)
        last = await ended(port, "good")
        assert (last.kind, last.seq) == ("final", 1)
        with anyio.fail_after(5):
            await port.acknowledge("good", 1)
            while await command(clients.commands, "XLEN", inbox):
                await anyio.sleep(0.01)


async def test_notes_receipts_and_records_that_cannot_be_read_are_left_out(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    keys = Keys(settings.tenant, 1)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("a"))
        for junk in JUNK:
            for key in (keys.notes(0, "a"), keys.journal(0, "a"), keys.events(0, "a")):
                await command(clients.commands, "RPUSH", key, junk)
            await command(clients.commands, "HSET", keys.receipts(0, "a"), f"junk{JUNK.index(junk)}", junk)
        assert await port.update("a", "make it two") == "stored"
        entry, begun = await begin(worker)
        assert begun.updates == ("make it two",)
        for junk in JUNK:
            await command(clients.commands, "RPUSH", keys.notes(0, "a"), junk)
        assert not (await worker.emit("a", 1, [partial("a", 1, begun.next_seq)])).fenced
        assert not (await worker.beat(entry, 1)).fenced
        receipt = Receipt(task_id="a", seq=begun.next_seq, state="heard", words_heard=2, session_ms=9)
        await command(clients.commands, "HSET", keys.receipts(0, "a"), str(begun.next_seq), "[]")
        port.receipt_nowait("session", receipt)
        with anyio.fail_after(3):
            while receipt not in (await port.ledger("session")).promises[0].receipts:
                await anyio.sleep(0.01)
        ledger = await port.reopen("session")
        assert [promise.task_id for promise in ledger.promises] == ["a"]


async def test_a_task_whose_record_is_no_record_goes_to_the_dead_ones_and_costs_no_other_one(
    settings: BusSettings, package: MakePackage, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign program has written to the hashes."""
    keys = Keys(settings.tenant, 1)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        for name in ("text", "deadline", "attempt"):
            await port.submit(package(name, deadline_s=2.0))
        await command(clients.commands, "DEL", keys.task(0, "text"))
        await command(clients.commands, "SET", keys.task(0, "text"), "text")
        await command(clients.commands, "HSET", keys.task(0, "deadline"), "deadline", "soon")
        await command(clients.commands, "HSET", keys.task(0, "attempt"), "attempt", "first")
        await port.submit(package("good"))
        port.receipt_nowait(
            "session",
            Receipt(task_id="text", seq=1, state="heard", words_heard=1, words_total=1, session_ms=0),
        )
        with anyio.fail_after(5):
            for name in ("text", "deadline", "attempt"):
                entry = await worker.take()
                assert entry.package.task_id == name
                assert await worker.begin(entry) is None
            entry = await worker.take()
            begun = await worker.begin(entry)
            assert begun is not None
        await finish(worker, "good", begun)
        assert (await ended(port, "good")).kind == "final"
        assert await command(clients.commands, "XLEN", keys.dead(0)) == 3
        spoilt: dict[str, str] = {}
        with anyio.fail_after(10):
            async for event in port.events():
                if isinstance(event, DelegationEvent) and event.is_terminal:
                    spoilt[event.task_id] = event.kind
                if len(spoilt) == 3:
                    break
        assert spoilt == dict.fromkeys(("text", "deadline", "attempt"), "expired")
        await port.flush()
        assert port.health.state == "ok"


@pytest.mark.parametrize(
    "faults",
    [Faults(delay_s=0.02), Faults(garble_every=12), Faults(drop_every=15, garble_every=15, delay_s=0.002)],
    ids=["slow", "garbled", "all of it"],
)
async def test_a_server_that_answers_slowly_or_wrongly_costs_time_and_nothing_else(
    settings: BusSettings,
    package: MakePackage,
    server: EmbeddedServer,
    start_workers: StartWorkers,
    faults: Faults,
) -> None:
    with FaultyLink(server.url, seed=1) as link:
        faulty = replace(settings, url=link.url, lease_s=1.5)
        start_workers(1, faulty)
        async with open_delegation_port(faulty) as port:
            link.set(faults)
            for number in range(8):
                assert port.submit_nowait(package(f"t{number}", intent="stream 6 5"))
            seen = await collect(port, 8)
    assert link.counters.garbled > 1 or not faults.garble_every  # calls that go together are one reply
    assert len(seen) == 8
    for events in seen.values():
        assert_whole(events, 6)


@pytest.mark.parametrize("jump_s", [3600, -3600], ids=["forward", "back"])
async def test_a_jump_of_the_servers_clock_ends_tasks_early_or_late_but_ends_them(
    settings: BusSettings, package: MakePackage, jump_s: int
) -> None:
    """As after a failover to a server whose clock is wrong: what is stored is an hour off from its time."""
    keys = Keys(settings.tenant, 1)
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("a"))
        await command(clients.commands, "HINCRBY", keys.task(0, "a"), "deadline", str(-jump_s * 1000))
        if jump_s < 0:
            _, begun = await begin(worker)
            assert begun.remaining_s > 3600
            await finish(worker, "a", begun)
        else:
            entry = await worker.take()
            assert await worker.begin(entry) is None
        assert (await ended(port, "a")).kind == ("final" if jump_s < 0 else "expired")


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit(2)")
async def test_a_server_whose_disk_is_full_is_waited_for(tmp_path: Path, package: MakePackage) -> None:
    """The kernel refuses to let the server's files grow, as a full disk does."""
    with EmbeddedServer(tmp_path) as server:
        settings = BusSettings(server.url, lease_s=1.0, presence_s=0.1)
        async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
            await port.submit(package("before"))
            entry, begun = await begin(worker)
            assert server.pid is not None
            allow_file_size(server.pid, 8_000)
            assert port.submit_nowait(package("filler", intent="x" * 20_000))
            with anyio.fail_after(5):
                while "StorageError" not in port.health.reason:
                    await anyio.sleep(0.02)
            assert port.submit_nowait(package("during"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(finish, worker, "before", begun)
                await anyio.sleep(0.3)
                allow_file_size(server.pid, resource.RLIM_INFINITY)
            for _ in range(2):
                entry, begun = await begin(worker)
                await finish(worker, entry.package.task_id, begun)
            seen = await collect(port, 3)
        assert {name: events[-1].kind for name, events in seen.items()} == {
            "before": "final",
            "filler": "final",
            "during": "final",
        }


def allow_file_size(pid: int, size: int) -> None:
    """How large the files of a process may become; the server ignores the signal that would end it."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _raw(text: str) -> str:
    """Text that redis-py sends as it is; bytes that are no text it sends in their place."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
