"""Sessions: which runtime has one, and what the next one is given when it takes it over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent, Receipt, SessionLedger, Speech
from microturn.runtime.bus import (
    BusEvent,
    BusNameError,
    BusSettings,
    BusUnreachableError,
    DelegationPort,
    EmbeddedServer,
    SessionMoved,
    SessionTakenError,
    UnknownSessionError,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
    reopening,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.inbox import Inbox
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import ScriptName, Scripts
from microturn.runtime.bus.session_records import SessionRecords
from microturn.runtime.testing import Faults, FaultyLink

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


async def take(port: DelegationPort, count: int) -> list[BusEvent]:
    """The next items of a port."""
    with anyio.fail_after(5):
        return [await anext(port.events()) for _ in range(count)]


async def begin(worker: WorkerPort) -> int:
    """Take and begin the next task; its next number."""
    begun = await worker.begin(await worker.take())
    assert begun is not None
    return begun.next_seq


def final(task_id: str, seq: int) -> DelegationEvent:
    return DelegationEvent(task_id=task_id, attempt=1, seq=seq, kind="final")


def kinds(ledger: SessionLedger) -> list[list[tuple[int, str]]]:
    return [[(event.seq, event.kind) for event in promise.events] for promise in ledger.promises]


async def test_a_runtime_that_reopens_a_session_is_given_all_of_it_and_what_comes_later(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as old,
        open_delegation_port(settings) as new,
        open_worker_port(settings) as worker,
    ):
        await old.submit(package("a", intent="what was asked"))
        await begin(worker)
        await worker.emit("a", 1, [partial("a", 1, 1)])
        await old.submit(package("b"))
        old.receipt_nowait(
            "session", Receipt(task_id="a", seq=1, state="woven", words_heard=1, words_total=2, session_ms=9)
        )
        await old.flush()
        ledger = await new.reopen("session")
        assert (ledger.session_id, ledger.runtime_id, ledger.epoch) == ("session", new.runtime_id, 1)
        assert kinds(ledger) == [[(0, "accepted"), (1, "partial")], [(0, "accepted")]]
        first, second = ledger.promises
        assert (first.task_id, first.intent, first.state, first.task_state) == (
            "a",
            "what was asked",
            "open",
            "running",
        )
        assert (second.task_id, second.task_state) == ("b", "queued")
        assert [(receipt.seq, receipt.words_heard) for receipt in first.receipts] == [(1, 1)]
        assert first.made_ms <= second.made_ms
        assert not (await worker.emit("a", 1, [partial("a", 1, 2)])).fenced
        assert not (await worker.emit("a", 1, [final("a", 3)], finish=True)).fenced
        later = await take(new, 2)
        assert [(event.task_id, event.seq) for event in later if isinstance(event, DelegationEvent)] == [
            ("a", 2),
            ("a", 3),
        ]


async def test_the_runtime_that_lost_a_session_is_told_once_and_gets_nothing_more_of_it(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as old,
        open_delegation_port(settings) as new,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await old.submit(package("a"))
        await old.submit(package("mine", session_id="other"))
        await begin(worker)
        await new.reopen("session")
        await worker.emit("a", 1, [partial("a", 1, 1)])
        accepted, also_accepted, moved = await take(old, 3)
        assert moved == SessionMoved("session")
        assert isinstance(accepted, DelegationEvent)
        assert isinstance(also_accepted, DelegationEvent)
        with pytest.raises(SessionTakenError):
            await old.submit(package("c"))
        assert old.submit_nowait(package("d"))
        [refused] = await take(old, 1)
        assert isinstance(refused, DelegationEvent)
        assert (refused.kind, refused.detail) == ("failed", {"reason": "moved"})
        old.acknowledge_nowait("a", 9)
        old.promise_nowait("session", "a", "spoken")
        old.receipt_nowait("session", Receipt(task_id="a", seq=1, state="heard", session_ms=9))
        await old.acknowledge("mine", 0)
        inbox = Keys(settings.tenant, 1).inbox(0, old.runtime_id)
        with anyio.fail_after(3):
            while await command(clients.commands, "XLEN", inbox):
                await anyio.sleep(0.01)
        ledger = await new.ledger("session")
        assert ledger.promises[0].state == "open"
        assert ledger.promises[0].receipts == ()


async def test_what_a_runtime_noted_without_the_session_is_not_stored_when_it_gets_it_back(
    settings: BusSettings, package: MakePackage, server: EmbeddedServer
) -> None:
    """As one that was stopped and plays on, out of the server's reach, before its client turns to it again."""
    with FaultyLink(server.url) as link:
        async with (
            open_delegation_port(replace(settings, url=link.url, command_timeout_s=0.2)) as old,
            open_delegation_port(settings) as new,
        ):
            await old.submit(package("a"))
            await new.reopen("session")
            link.set(Faults(cut=True))
            old.receipt_nowait("session", Receipt(task_id="a", seq=0, state="heard", session_ms=0))
            old.promise_nowait("session", "a", "spoken")
            await anyio.sleep(1.0)  # by now they are tried only twice a second
            link.set(Faults(delay_s=0.05))  # so that the reopening lasts until the second receipt
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(old.reopen, "session")
                await anyio.sleep(0.01)
                old.receipt_nowait("session", Receipt(task_id="a", seq=1, state="heard", session_ms=0))
            link.heal()
            await old.flush()
            [promise] = (await new.ledger("session")).promises
            assert (promise.state, promise.receipts) == ("open", ())


async def test_a_leftover_that_is_looked_up_while_its_session_is_reopened_is_not_given_again(
    settings: BusSettings, package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(settings.tenant, settings.shards)
    async with (
        open_delegation_port(settings) as left,
        open_delegation_port(settings) as right,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await left.submit(package("a"))
        await right.reopen("session")
        accepted, moved = await take(left, 2)
        assert isinstance(accepted, DelegationEvent)
        assert moved == SessionMoved("session")
        await begin(worker)
        await worker.emit("a", 1, [final("a", 1)], finish=True)
        run = Scripts.run

        async def run_late(self: Scripts, name: ScriptName, *given: Any) -> list[str]:
            if name == "resume":
                await left.reopen("session")
            return await run(self, name, *given)

        monkeypatch.setattr(Scripts, "run", run_late)
        inbox = keys.inbox(0, left.runtime_id)
        await command(clients.commands, "XADD", inbox, "*", "event", final("a", 1).encode())
        with anyio.fail_after(3):
            while await command(clients.commands, "XLEN", inbox):
                await anyio.sleep(0.01)
        with anyio.move_on_after(0.2):
            given = await anext(left.events())
            raise AssertionError(f"{given} was given, which stands in the ledger")


async def test_the_last_event_of_a_task_that_a_ledger_gave_is_not_given_again_when_it_is_read_later(
    settings: BusSettings, package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, take_in = Scripts.run, Inbox.take_in
    may_read, may_acknowledge = anyio.Event(), anyio.Event()
    may_read.set()

    async def run_late(self: Scripts, name: ScriptName, *given: Any) -> list[str]:
        if name == "acknowledge":
            await may_acknowledge.wait()
        return await run(self, name, *given)

    async def take_in_late(self: Inbox, shard: int, entry_id: str, fields: dict[str, str]) -> None:
        await may_read.wait()
        await take_in(self, shard, entry_id, fields)

    monkeypatch.setattr(Scripts, "run", run_late)
    monkeypatch.setattr(Inbox, "take_in", take_in_late)
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await take(port, 1)
        may_read = anyio.Event()
        await begin(worker)
        await worker.emit("a", 1, [final("a", 1)], finish=True)
        ledger = await port.reopen("session")
        assert [event.seq for event in ledger.promises[0].events] == [0, 1]
        port.acknowledge_nowait("a", 1)
        may_read.set()
        with anyio.move_on_after(0.3):
            given = await anext(port.events())
            raise AssertionError(f"{given} was given, which stands in the ledger")
        may_acknowledge.set()


async def test_whatever_a_runtime_says_of_a_session_that_it_lost_is_refused(
    settings: BusSettings, package: MakePackage
) -> None:
    """As one does that was stopped while the session moved, and has not read that yet."""
    keys = Keys(settings.tenant, settings.shards)
    async with (
        open_delegation_port(settings) as new,
        open_delegation_port(settings, runtime_id="zombie") as old,
        open_clients(settings) as clients,
    ):
        await old.submit(package("a"))
        await new.reopen("session")
        run = Scripts(clients.commands).run
        task, session = keys.of_task(0, "a", "zombie"), keys.of_session("session")
        receipt = Receipt(task_id="a", seq=0, state="heard", session_ms=0).encode()
        refused = ["moved", new.runtime_id]
        assert await run("receipt", [*task, *session], 0, receipt, 1000, 1000) == refused
        assert await run("promise", [*task, *session], "spoken", 1000, 1000) == refused
        assert await run("update", task, "call", "{}", 64) == refused
        cancel = [*task, keys.lane(0, "urgent")]
        assert await run("cancel", cancel, "a", "cancelled", "reason", 1000, 1000) == refused
        assert await run("acknowledge", [keys.inbox(0, "zombie"), keys.task(0, "a")], 5) == refused
        assert await run("leave_session", session, "zombie", 1000) == refused
        assert await run("enter_session", session, "zombie", 0, 1000) == refused
        assert await run("resume", [keys.inbox(0, "zombie"), keys.task(0, "a")]) == ["other"]
        assert (await new.ledger("session")).promises[0].state == "open"


async def test_events_that_come_while_a_session_is_taken_over_are_neither_lost_nor_given_twice(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    last = 150
    async with (
        open_delegation_port(settings) as one,
        open_delegation_port(settings) as two,
        open_worker_port(settings) as worker,
    ):
        await one.submit(package("a"))
        await begin(worker)

        async def work() -> None:
            for seq in range(1, last):
                await worker.emit("a", 1, [partial("a", 1, seq)])
                await anyio.sleep(0.001)
            await worker.emit("a", 1, [final("a", last)], finish=True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            for port in (two, one, two, one, two, two):
                await anyio.sleep(0.02)
                ledger = await port.reopen("session")
        assert ledger.epoch == 6
        seen = [event.seq for event in ledger.promises[0].events]
        async for event in two.events():
            assert isinstance(event, DelegationEvent)
            seen.append(event.seq)
            if event.is_terminal:
                break
        assert seen == list(range(last + 1))


async def test_a_task_that_waits_follows_its_session_and_is_begun_for_it(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as old,
        open_delegation_port(settings) as new,
        open_worker_port(settings) as worker,
    ):
        await old.submit(package("a"))
        await old.submit(package("late", deadline_s=0.05))
        await old.submit(package("b").model_copy(update={"urgent": True}))
        await new.reopen("session")
        assert await new.cancel("b", "enough") == "ended"
        await anyio.sleep(0.06)
        taken = {}
        for _ in range(3):
            entry = await worker.take()
            taken[entry.package.task_id] = await worker.begin(entry)
        assert taken["a"] is not None
        assert (taken["b"], taken["late"]) == (None, None)
        await worker.emit("a", 1, [final("a", 1)], finish=True)
        events = {
            (event.task_id, event.kind) for event in await take(new, 3) if isinstance(event, DelegationEvent)
        }
        assert events == {("b", "cancelled"), ("late", "expired"), ("a", "final")}


async def test_a_session_that_nobody_began_cannot_be_reopened_or_read(settings: BusSettings) -> None:
    async with open_delegation_port(settings) as port:
        for ask in (port.reopen, port.ledger):
            with pytest.raises(UnknownSessionError, match="never begun"):
                await ask("nothing")
            with pytest.raises(BusNameError):
                await ask("no{name}")


async def test_a_session_can_be_reopened_before_anything_was_asked_in_it(settings: BusSettings) -> None:
    async with open_delegation_port(settings) as old, open_delegation_port(settings) as new:
        assert old.enter_nowait("session", 60_000)
        await old.flush()
        ledger = await new.reopen("session")
        assert (ledger.epoch, ledger.promises) == (1, ())
        assert 60_000 <= ledger.elapsed_ms < 65_000
        assert (await new.ledger("session")).elapsed_ms < 5_000


async def test_a_repeated_call_takes_a_session_over_once(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        keys = Keys(settings.tenant, settings.shards)
        records = SessionRecords(Scripts(clients.commands), keys, settings)
        first = await records.take("session", "new", call_id="one")
        again = await records.take("session", "new", call_id="one")
        assert (first.epoch, again.epoch) == (1, 1)
        assert first.anchor_ms == again.anchor_ms
        assert (await records.take("session", "new", call_id="two")).epoch == 2
        assert await records.adopt(first, "a") is not None
        await records.take("session", "third", call_id="three")
        with pytest.raises(SessionTakenError):
            await records.adopt(first, "a")


async def test_a_session_that_another_runtime_has_is_entered_only_after_that_has_left(
    settings: BusSettings,
) -> None:
    async with open_delegation_port(settings) as one, open_delegation_port(settings) as two:
        one.enter_nowait("session", 0)
        await one.flush()
        two.enter_nowait("session", 0)
        assert await take(two, 1) == [SessionMoved("session")]
        one.leave_nowait("session")
        await one.flush()
        two.enter_nowait("session", 0)
        with anyio.fail_after(3):
            while (await one.ledger("session")).runtime_id != two.runtime_id:
                await anyio.sleep(0.01)


async def test_who_leaves_a_session_cancels_what_is_open_and_declines_what_is_owed(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        port.enter_nowait("session", 0)
        for name in ("done", "running", "waiting"):
            assert port.submit_nowait(package(name))
        await begin(worker)
        await begin(worker)
        await worker.emit("done", 1, [final("done", 1)], finish=True)
        port.promise_nowait("session", "done", "spoken")
        port.leave_nowait("session")
        await port.flush()
        promises = {promise.task_id: promise for promise in (await port.ledger("session")).promises}
        assert {name: promise.state for name, promise in promises.items()} == {
            "done": "spoken",
            "running": "declined",
            "waiting": "declined",
        }
        assert promises["waiting"].task_state == "cancelled"
        cancelled = DelegationEvent(task_id="running", attempt=1, seq=1, kind="cancelled")
        assert (await worker.emit("running", 1, [cancelled])).cancel


async def test_session_times_are_told_by_one_clock_however_often_the_session_moved(
    settings: BusSettings, package: MakePackage
) -> None:
    """A reminder stays at its moment: the ledger tells it by the clock that `elapsed_ms` is of."""

    def remind(task_id: str, seq: int, at_ms: int) -> DelegationEvent:
        speech = Speech(text="it is time", not_before_ms=at_ms)
        return DelegationEvent(task_id=task_id, attempt=1, seq=seq, kind="partial", speech=speech)

    async with (
        open_delegation_port(settings) as port,
        open_delegation_port(settings) as two,
        open_worker_port(settings) as worker,
    ):
        port.enter_nowait("session", 100_000)
        await port.submit(package("a"))
        await begin(worker)
        await worker.emit("a", 1, [remind("a", 1, 130_000)])
        for reopened, runtime in enumerate((two, port)):
            await anyio.sleep(0.2)
            ledger = await runtime.reopen("session")
            [_, reminder] = ledger.promises[0].events
            assert reminder.speech is not None
            assert reminder.speech.not_before_ms is not None
            left_ms = reminder.speech.not_before_ms - ledger.elapsed_ms
            assert 25_000 < left_ms <= 30_000 - 200 * (reopened + 1) + 50
        await worker.emit("a", 1, [remind("a", 2, 130_000)])
        seqs = {}
        while 2 not in seqs:
            for item in await take(port, 1):
                if isinstance(item, DelegationEvent):
                    seqs[item.seq] = item.speech
        assert seqs[2] == reminder.speech


async def test_a_session_and_what_it_is_owed_are_forgotten_after_their_time(
    settings: BusSettings, package: MakePackage
) -> None:
    brief = replace(settings, session_retention_s=0.3, retention_s=0.3)
    async with open_delegation_port(brief) as port, open_clients(brief) as clients:
        await port.submit(package("a"))
        await port.cancel("a", "enough")
        assert [promise.task_state for promise in (await port.ledger("session")).promises] == ["cancelled"]
        await anyio.sleep(0.35)
        with pytest.raises(UnknownSessionError):
            await port.reopen("session")
        left = await command(clients.commands, "KEYS", f"mt:{settings.tenant}:*:a")
        assert left == []


async def test_a_task_that_was_forgotten_leaves_the_list_of_its_session(
    settings: BusSettings, package: MakePackage
) -> None:
    brief = replace(settings, retention_s=0.05)
    async with open_delegation_port(brief) as port, open_clients(brief) as clients:
        await port.submit(package("a"))
        await port.submit(package("b"))
        await port.cancel("a", "enough")
        port.promise_nowait("session", "a", "declined")
        await port.flush()
        await anyio.sleep(0.1)
        assert [promise.task_id for promise in (await port.reopen("session")).promises] == ["b"]
        tasks = Keys(settings.tenant, 1).of_session("session")[1]
        assert await command(clients.commands, "LRANGE", tasks, "0", "-1") == ["b"]


async def test_events_that_nobody_took_in_are_kept_for_who_reopens_however_many(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    few = replace(settings, stored_events=4)
    async with open_delegation_port(few) as port, open_worker_port(few) as worker:
        await port.submit(package("a"))
        await begin(worker)
        for seq in range(1, 20):
            await worker.emit("a", 1, [partial("a", 1, seq)])
        assert len((await port.ledger("session")).promises[0].events) == 20
        await take(port, 20)
        await port.acknowledge("a", 18)
        await worker.emit("a", 1, [partial("a", 1, 20)])
        assert [event.seq for event in (await port.ledger("session")).promises[0].events] == [17, 18, 19, 20]


async def test_an_event_of_a_task_that_another_runtime_has_is_dropped(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as owner,
        open_delegation_port(settings) as other,
        open_clients(settings) as clients,
    ):
        await owner.submit(package("a"))
        await other.submit(package("b", session_id="another"))
        inbox = Keys(settings.tenant, 1).inbox(0, other.runtime_id)
        await command(clients.commands, "XADD", inbox, "*", "event", partial("a", 1, 1).encode())
        await command(clients.commands, "XADD", inbox, "*", "event", partial("b", 1, 1).encode())
        first, second = await take(other, 2)
        assert isinstance(first, DelegationEvent)
        assert isinstance(second, DelegationEvent)
        assert (first.task_id, second.task_id) == ("b", "b")
        await other.acknowledge("b", 1)
        with anyio.fail_after(3):
            while await command(clients.commands, "XLEN", inbox) != 0:
                await anyio.sleep(0.01)


async def test_who_reopens_a_session_while_no_server_answers_is_told_so(
    tmp_path_factory: pytest.TempPathFactory, package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("outage")
    server = EmbeddedServer(folder, restart=False).start()
    settings = BusSettings(server.url, presence_s=0.1)
    async with open_delegation_port(settings) as port:
        await port.submit(package("a"))
        server.stop()
        monkeypatch.setattr(reopening, "WITHIN_S", 0.2)
        with pytest.raises(BusUnreachableError, match="cannot read a session"):
            await port.reopen("session")
        monkeypatch.undo()
        async with anyio.create_task_group() as tasks:
            ledgers: list[SessionLedger] = []

            async def reopen() -> None:
                ledgers.append(await port.reopen("session"))

            tasks.start_soon(reopen)
            await anyio.sleep(0.1)
            with EmbeddedServer(folder, restart=False), anyio.fail_after(5):
                while not ledgers:
                    await anyio.sleep(0.01)
        assert [promise.task_id for promise in ledgers[0].promises] == ["a"]
