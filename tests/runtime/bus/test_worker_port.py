from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from microturn.background_agent.worker_bus import TaskEntry, WorkerBus
from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    PackageTooLargeError,
    QueueFullError,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.delivery import Delivery
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.notes import correction_note
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.scripts import Scripts

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]
MakePartial = Callable[[str, int, int], DelegationEvent]


async def test_a_task_is_run_once_and_its_events_keep_their_order(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        bus: WorkerBus = worker
        sent = package("a", intent="what it is about")
        await port.submit(sent)
        entry = await bus.take()
        assert entry.package == sent
        begun = await bus.begin(entry)
        assert begun is not None
        assert (begun.attempt, begun.next_seq, begun.emitted) == (1, 1, ())
        assert 28 < begun.remaining_s <= 30
        for seq in range(1, 20):
            assert not (await bus.emit("a", 1, [partial("a", 1, seq)])).duplicate
        final = DelegationEvent(task_id="a", attempt=1, seq=20, kind="final")
        await bus.emit("a", 1, [final], finish=True)
        events = [await anext(port.events()) for _ in range(21)]
        assert [event.seq for event in events if isinstance(event, DelegationEvent)] == list(range(21))
        with anyio.move_on_after(settings.lease_s * 2) as scope:
            await bus.take()
        assert scope.cancelled_caught


async def test_a_number_that_was_seen_is_a_duplicate_and_is_not_sent_again(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await worker.begin(await worker.take()) is not None
        first = await worker.emit("a", 1, [partial("a", 1, 1)])
        again = await worker.emit("a", 1, [partial("a", 1, 1)])
        assert (first.duplicate, again.duplicate) == (False, True)
        assert first.backlog == again.backlog


async def test_a_last_event_is_sent_even_under_a_number_that_was_used(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await worker.begin(await worker.take()) is not None
        await worker.emit("a", 1, [partial("a", 1, 1)])
        cancelled = DelegationEvent(task_id="a", attempt=1, seq=1, kind="cancelled")
        assert not (await worker.emit("a", 1, [cancelled], finish=True)).duplicate
        events = [await anext(port.events()) for _ in range(3)]
        assert [(event.seq, event.kind) for event in events if isinstance(event, DelegationEvent)] == [
            (0, "accepted"),
            (1, "partial"),
            (2, "cancelled"),
        ]


async def test_a_silent_worker_is_replaced_told_what_was_said_and_fenced(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as silent,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("a"))
        entry = await silent.take()
        assert await silent.begin(entry) is not None
        for seq in (1, 2):
            await silent.emit("a", 1, [partial("a", 1, seq)])
        taken_over = await other.take()
        begun = await other.begin(taken_over)
        assert begun is not None
        assert (begun.attempt, begun.next_seq) == (2, 3)
        assert [event.text for event in begun.emitted] == ["part 1", "part 2"]
        assert (await silent.emit("a", 1, [partial("a", 1, 3)])).fenced
        assert (await silent.beat(entry, 1)).fenced
        assert not (await other.emit("a", 2, [partial("a", 2, 3)])).fenced
        assert await silent.begin(entry) is None


async def test_a_task_whose_worker_gives_signs_of_life_stays_with_it(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        taken_over: list[TaskEntry] = []

        async def take_over() -> None:
            taken_over.append(await other.take())

        with anyio.move_on_after(settings.lease_s * 2.5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take_over)
                while True:
                    assert not (await worker.beat(entry, 1)).fenced
                    await anyio.sleep(settings.lease_s / 4)
        assert taken_over == []


async def test_a_delivery_that_another_has_taken_over_is_not_begun(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as slow,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("a"))
        entry = await slow.take()
        taken_over = await other.take()
        assert await slow.begin(entry) is None
        begun = await other.begin(taken_over)
        assert begun is not None
        assert begun.attempt == 1


async def test_a_running_task_is_told_of_a_cancel_and_of_each_update_once(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        assert (await worker.beat(entry, 1)).updates == ()
        assert await port.update("a", "make it two") == "stored"
        assert await port.update("a", "no, three") == "stored"
        assert (await worker.beat(entry, 1)).updates == ("make it two", "no, three")
        result = await worker.emit("a", 1, [partial("a", 1, 1)])
        assert (result.updates, result.cancel) == ((), False)
        assert await port.cancel("a", "enough") == "asked"
        assert (await worker.beat(entry, 1)).cancel
        assert (await worker.emit("a", 1, [partial("a", 1, 2)])).cancel


async def test_two_calls_under_way_do_not_both_bring_an_update(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        await port.update("a", "make it two")
        told: list[str] = []

        async def beat() -> None:
            told.extend((await worker.beat(entry, 1)).updates)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(beat)
        assert told == ["make it two"]


async def test_a_second_attempt_is_told_of_the_updates_again(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as silent,
        open_worker_port(settings) as other,
    ):
        await port.submit(package("a"))
        entry = await silent.take()
        assert await silent.begin(entry) is not None
        await port.update("a", "make it two")
        assert (await silent.beat(entry, 1)).updates == ("make it two",)
        again = await other.take()
        begun = await other.begin(again)
        assert begun is not None
        assert begun.updates == ("make it two",)
        assert (await other.beat(again, 2)).updates == ()


async def test_a_task_whose_time_is_up_is_not_begun(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a", deadline_s=0.05))
        await anyio.sleep(0.06)
        assert await worker.begin(await worker.take()) is None
        events = [await anext(port.events()) for _ in range(2)]
        assert [event.kind for event in events if isinstance(event, DelegationEvent)] == [
            "accepted",
            "expired",
        ]


async def test_a_task_that_is_cancelled_between_two_attempts_is_not_begun_again(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await worker.begin(await worker.take()) is not None
        assert await port.cancel("a", "enough") == "asked"
        assert await worker.begin(await worker.take()) is None
        events = [await anext(port.events()) for _ in range(2)]
        assert isinstance(events[-1], DelegationEvent)
        assert (events[-1].kind, events[-1].detail) == ("cancelled", {"reason": "enough"})


async def test_a_running_task_whose_worker_is_dead_is_cancelled_at_once(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as dead:
        await port.submit(package("a"))
        assert await dead.begin(await dead.take()) is not None
        await anyio.sleep(settings.lease_s + 0.05)
        assert await port.cancel("a", "enough") == "ended"
        assert (await dead.emit("a", 1, [partial("a", 1, 1)])).fenced
        assert await _pending(settings) == 0


async def test_a_package_of_another_major_version_is_given_up_with_its_reason(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("new").model_copy(update={"v": "9.0"}))
        await port.submit(package("good"))
        assert (await worker.take()).package.task_id == "good"
        events = [await anext(port.events()) for _ in range(3)]
        assert isinstance(events[-1], DelegationEvent)
        assert (events[-1].task_id, events[-1].kind, events[-1].detail) == (
            "new",
            "dead",
            {"reason": "schema"},
        )
        async with open_clients(settings) as clients:
            dead = await command(clients.commands, "XRANGE", f"mt:{settings.tenant}:{{s00}}:dead", "-", "+")
            assert isinstance(dead, list)
            assert len(dead) == 1
            assert dead[0][1][-2:] == ["reason", "schema"]


async def test_a_newer_minor_version_is_read(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a").model_copy(update={"v": "1.9"}))
        assert (await worker.take()).package.task_id == "a"


async def test_a_worker_sees_how_far_the_reader_is_behind(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await worker.begin(await worker.take()) is not None
        for seq in range(1, 1001):  # nobody iterates over the events
            result = await worker.emit("a", 1, [partial("a", 1, seq)])
        assert result.backlog == 1001
        read = 0
        async for event in port.events():
            assert isinstance(event, DelegationEvent)
            assert event.seq == read
            read += 1
            if read == 901:
                break
        await port.acknowledge("a", 900)
        assert (await worker.emit("a", 1, [partial("a", 1, 1001)])).backlog == 101


async def test_a_group_that_was_deleted_is_made_again(settings: BusSettings, package: MakePackage) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await command(clients.commands, "DEL", f"mt:{settings.tenant}:{{s00}}:tasks")
        await port.submit(package("a"))
        assert (await worker.take()).package.task_id == "a"


async def test_an_event_over_the_size_is_refused(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await worker.begin(await worker.take()) is not None
        long = partial("a", 1, 1).model_copy(update={"text": "x" * 300_000})
        with pytest.raises(PackageTooLargeError, match="delegation event of 300"):
            await worker.emit("a", 1, [long])


async def test_the_record_of_an_ended_task_is_let_go_after_a_while(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        key = f"mt:{settings.tenant}:{{s00}}:t:a"
        assert await command(clients.commands, "TTL", key) == -1
        await port.cancel("a", "enough")
        owed = await command(clients.commands, "TTL", key)
        assert isinstance(owed, int)
        assert 86_300 < owed <= 86_400
        expires = await command(clients.commands, "EXPIRETIME", key)
        port.promise_nowait("session", "a", "declined")
        with anyio.fail_after(5):
            while await command(clients.commands, "EXPIRETIME", key) == expires:
                await anyio.sleep(0.01)
        left = await command(clients.commands, "TTL", key)
        assert isinstance(left, int)
        assert 3500 < left <= 3600


async def test_a_worker_that_leaves_is_forgotten_and_what_it_held_goes_to_others_before_its_lease_ends(
    settings: BusSettings, package: MakePackage
) -> None:
    patient = replace(settings, lease_s=30.0)
    async with open_delegation_port(patient) as port:
        async with open_worker_port(patient, worker_id="idle"), open_worker_port(patient) as busy:
            await port.submit(package("begun"))
            await port.submit(package("taken"))
            assert await busy.begin(await busy.take()) is not None
            await busy.take()
        async with open_worker_port(replace(settings, lease_s=30.0), worker_id="other") as other:
            with anyio.fail_after(10):  # a sweep comes after an eighth of a lease at most
                again = {(await other.take()).package.task_id for _ in range(2)}
            assert again == {"begun", "taken"}
        assert busy.worker_id not in await _consumers(settings)
        assert "idle" not in await _consumers(settings)


async def test_sessions_on_several_shards_are_all_served(settings: BusSettings, package: MakePackage) -> None:
    spread = BusSettings(settings.url, tenant=settings.tenant, shards=4, lease_s=settings.lease_s)
    async with open_delegation_port(spread) as port, open_worker_port(spread) as worker:
        for number in range(12):
            await port.submit(package(f"t{number}", session_id=f"session-{number}"))
        taken = {(await worker.take()).package.task_id for _ in range(12)}
        assert taken == {f"t{number}" for number in range(12)}
        await _expect_accepted(port, 12)


async def test_a_begin_that_is_repeated_for_want_of_an_answer_is_one_attempt(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        delivery = Delivery.parse((await worker.take()).entry_id)
        names = Keys(settings.tenant, settings.shards)
        keys = [*names.of_task(delivery.shard, "a", delivery.runtime_id), names.dead(delivery.shard)]
        async with open_clients(settings) as clients:
            scripts = Scripts(clients.commands)
            for call_id, attempt in (("one", "1"), ("one", "1"), ("two", "2"), ("two", "2")):
                reply = await scripts.run(
                    "begin", keys, "a", delivery.entry, worker.worker_id, call_id, 3, 600, 60_000, 60_000
                )
                assert reply[:3] == ["begun", attempt, "1"]


async def test_an_update_that_is_repeated_for_want_of_an_answer_is_one_update(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        names = Keys(settings.tenant, settings.shards)
        keys = [*names.of_task(0, "a", port.runtime_id), names.bell(0)]
        async with open_clients(settings) as clients:
            for _ in range(2):
                run = Scripts(clients.commands).run
                assert await run("update", keys, "one", correction_note("make it two"), 64) == ["stored", "1"]
        assert (await worker.beat(entry, 1)).updates == ("make it two",)


async def test_a_server_without_memory_refuses_tasks_and_goes_on_once_events_are_acknowledged(
    settings: BusSettings, package: MakePackage, partial: MakePartial
) -> None:
    async with (
        open_delegation_port(settings) as port,
        open_worker_port(settings) as worker,
        open_clients(settings) as clients,
    ):
        await port.submit(package("a"))
        entry = await worker.take()
        assert await worker.begin(entry) is not None
        await command(clients.commands, "CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(QueueFullError, match="the server's memory"):
                await port.submit(package("b"))
            assert not (await worker.beat(entry, 1)).fenced
            await anyio.sleep(settings.presence_ttl_ms / 1000 + 0.05)
            assert await port.workers() == 1
            with anyio.fail_after(2):
                await port.acknowledge("a", 0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker.emit, "a", 1, [partial("a", 1, 1)])
                await anyio.sleep(0.1)
                inbox = f"mt:{settings.tenant}:{{s00}}:in:{port.runtime_id}"
                assert await command(clients.commands, "XLEN", inbox) == 0
                await command(clients.commands, "CONFIG", "SET", "maxmemory", "256mb")
            assert await command(clients.commands, "XLEN", inbox) == 1
        finally:
            await command(clients.commands, "CONFIG", "SET", "maxmemory", "256mb")


async def test_a_task_takes_only_so_many_updates(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port:
        await port.submit(package("a"))
        answers = [await port.update("a", "again") for _ in range(65)]
        assert answers == ["stored"] * 64 + ["full"]
        await port.cancel("a", "enough")
        assert await port.update("a", "again") == "ended"


async def test_a_script_that_the_server_has_forgotten_is_sent_anew(settings: BusSettings) -> None:
    async with open_clients(settings) as clients:
        await command(clients.commands, "SCRIPT", "FLUSH")
        assert await Scripts(clients.commands).run("presence", ["mt:{x}:workers"], "", 1000) == ["0"]


async def _expect_accepted(port: DelegationPort, count: int) -> None:
    events = [await anext(port.events()) for _ in range(count)]
    assert {event.kind for event in events if isinstance(event, DelegationEvent)} == {"accepted"}


async def _pending(settings: BusSettings) -> int:
    async with open_clients(settings) as clients:
        summary = await command(clients.commands, "XPENDING", f"mt:{settings.tenant}:{{s00}}:tasks", "w")
        assert isinstance(summary, list)
        return int(summary[0])


async def _consumers(settings: BusSettings) -> list[str]:
    async with open_clients(settings) as clients:
        found = await command(
            clients.commands, "XINFO", "CONSUMERS", f"mt:{settings.tenant}:{{s00}}:tasks", "w"
        )
        assert isinstance(found, list)
        return [consumer[1] for consumer in found]
