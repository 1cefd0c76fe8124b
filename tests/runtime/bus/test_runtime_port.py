from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusEvent,
    BusSettings,
    BusUnreachableError,
    DelegationPort,
    EmbeddedServer,
    Lagged,
    PackageTooLargeError,
    QueueFullError,
    open_delegation_port,
    open_worker_port,
)
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.raw import command

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


async def until_terminal(port: DelegationPort, tasks: int = 1) -> list[DelegationEvent]:
    """Read events until so many tasks have ended; a gap fails the test."""
    seen: list[DelegationEvent] = []
    async with aclosing(port.events()) as events:
        async for event in events:
            assert isinstance(event, DelegationEvent), event
            seen.append(event)
            tasks -= event.is_terminal
            if tasks == 0:
                return seen
    raise AssertionError("the events ended before the tasks did")


async def until_state(port: DelegationPort, state: str) -> None:
    while port.health.state != state:
        await anyio.sleep(0.01)


async def test_a_second_submit_of_a_task_is_the_same_task(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_delegation_port(settings) as other:
        assert await port.submit(package("a")) == "accepted"
        assert await port.submit(package("a")) == "duplicate"
        assert await other.submit(package("a")) == "duplicate"
        assert await port.submit(package("b", idempotency_key="a")) == "duplicate"
        async with open_clients(settings) as clients:
            assert await command(clients.commands, "XLEN", f"mt:{settings.tenant}:{{s00}}:tasks") == 1


async def test_what_is_submitted_from_the_beat_is_told_by_events(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port:
        assert port.submit_nowait(package("a"))
        assert port.submit_nowait(package("b", idempotency_key="a"))
        [accepted, duplicate] = await until_terminal(port)
        assert (accepted.task_id, accepted.kind, accepted.seq) == ("a", "accepted", 0)
        assert (duplicate.task_id, duplicate.kind, duplicate.detail) == (
            "b",
            "cancelled",
            {"reason": "duplicate"},
        )


async def test_a_full_queue_refuses_and_says_so(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(replace(settings, queue_limit=2)) as port:
        for name in ("a", "b"):
            assert await port.submit(package(name)) == "accepted"
        with pytest.raises(QueueFullError, match="limit of 2"):
            await port.submit(package("c"))
        assert port.submit_nowait(package("d"))
        events = await until_terminal(port)
        assert (events[-1].task_id, events[-1].kind, events[-1].detail) == (
            "d",
            "failed",
            {"reason": "queue_full"},
        )


async def test_the_local_queue_refuses_when_it_is_full_and_never_waits(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port:
        # No other task runs between these calls, so nothing is sent meanwhile.
        answers = [port.cancel_nowait(f"t{number}", "reason") for number in range(1200)]
        assert answers.count(True) == 1024
        assert answers.index(False) == 1024
        assert not port.submit_nowait(package("late"))


async def test_a_package_over_the_size_is_fitted_or_refused(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("long", intent="word " * 80_000))
        taken = await worker.take()
        assert 200_000 < len(taken.package.encode()) <= 256 * 1024
        bulky = package("bulky").model_copy(update={"tone": "x" * 300_000})
        with pytest.raises(PackageTooLargeError):
            await port.submit(bulky)
        port.submit_nowait(bulky.model_copy(update={"task_id": "bulkier"}))
        events = await until_terminal(port)
        assert events[-1].detail == {"reason": "too_large"}


async def test_a_waiting_task_is_cancelled_at_once_and_never_begun(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        assert await port.cancel("a", "the user changed their mind") == "ended"
        assert await port.cancel("a", "again") == "ended"
        events = await until_terminal(port)
        assert [event.kind for event in events] == ["accepted", "cancelled"]
        assert await worker.begin(await worker.take()) is None
        async with open_clients(settings) as clients:
            assert await command(clients.commands, "XLEN", f"mt:{settings.tenant}:{{s00}}:tasks") == 0


async def test_an_unknown_task_can_be_neither_cancelled_nor_updated(settings: BusSettings) -> None:
    async with open_delegation_port(settings) as port:
        assert await port.cancel("nothing", "reason") == "unknown"
        assert await port.update("nothing", "text") == "unknown"


async def test_a_task_that_no_worker_takes_expires(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port:
        await port.submit(package("a", deadline_s=0.05))
        with anyio.fail_after(3):
            events = await until_terminal(port)
        assert [event.kind for event in events] == ["accepted", "expired"]
        assert events[-1].detail == {"reason": "deadline"}


async def test_a_process_that_was_stopped_past_a_deadline_asks_before_it_gives_a_task_up(
    settings: BusSettings, package: MakePackage
) -> None:
    ahead_s = 0.0
    async with (
        open_delegation_port(settings, clock=lambda: time.monotonic() + ahead_s) as port,
        open_worker_port(settings) as worker,
    ):
        await port.submit(package("a", deadline_s=20))
        assert await worker.begin(await worker.take()) is not None
        ahead_s = 60.0
        await anyio.sleep(1.5)  # it has looked at least once, and again after a grace
        final = DelegationEvent(task_id="a", attempt=1, seq=1, kind="final")
        assert not (await worker.emit("a", 1, [final], finish=True)).fenced
        assert [event.kind for event in await until_terminal(port)] == ["accepted", "final"]


async def test_a_task_that_the_server_has_lost_is_ended_by_the_port(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        await port.submit(package("a", deadline_s=0.05))
        await command(clients.commands, "DEL", f"mt:{settings.tenant}:{{s00}}:t:a")
        with anyio.fail_after(5):
            events = await until_terminal(port)
        assert [event.kind for event in events] == ["accepted", "expired"]


async def test_what_was_not_acknowledged_is_given_again_to_the_same_runtime_id(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_worker_port(settings) as worker:
        async with open_delegation_port(settings, runtime_id="r") as port:
            await port.submit(package("a"))
            entry = await worker.take()
            begun = await worker.begin(entry)
            assert begun is not None
            for seq in range(1, 5):
                event = DelegationEvent(
                    task_id="a", attempt=1, seq=seq, kind="final" if seq == 4 else "partial"
                )
                await worker.emit("a", 1, [event], finish=seq == 4)
            assert [event.seq for event in await until_terminal(port)] == [0, 1, 2, 3, 4]
            await port.acknowledge("a", 2)
        async with open_delegation_port(settings, runtime_id="r") as port:
            assert [event.seq for event in await until_terminal(port)] == [3, 4]
            await port.acknowledge("a", 4)
        async with open_clients(settings) as clients:
            assert await command(clients.commands, "XLEN", f"mt:{settings.tenant}:{{s00}}:in:r") == 0


async def test_an_event_that_cannot_be_read_is_dropped_and_shows_as_a_gap(
    settings: BusSettings, package: MakePackage, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_delegation_port(settings, runtime_id="r") as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        inbox = f"mt:{settings.tenant}:{{s00}}:in:r"
        await command(clients.commands, "XADD", inbox, "*", "event", '{"v": "9.0", "text": "what was said"}')
        later = DelegationEvent(task_id="a", attempt=1, seq=2, kind="final")
        await command(clients.commands, "XADD", inbox, "*", "event", later.encode())
        with caplog.at_level(logging.ERROR):
            seen = [type(event).__name__ async for event in _first(port, 3)]
        assert seen == ["DelegationEvent", "Lagged", "DelegationEvent"]
        assert "what was said" not in caplog.text


@pytest.mark.parametrize(("kind", "told"), [("partial", "Lagged"), ("final", "failed")])
async def test_an_event_of_another_major_version_goes_to_the_dead_ones_and_nobody_waits_for_it(
    settings: BusSettings, package: MakePackage, caplog: pytest.LogCaptureFixture, kind: str, told: str
) -> None:
    async with open_delegation_port(settings, runtime_id="r") as port, open_clients(settings) as clients:
        await port.submit(package("a"))
        prefix = f"mt:{settings.tenant}:{{s00}}:"
        text = f'{{"v":"9.0","task_id":"a","attempt":1,"seq":1,"kind":"{kind}","text":"what was said"}}'
        await command(clients.commands, "XADD", f"{prefix}in:r", "*", "event", text)
        with caplog.at_level(logging.ERROR):
            _, item = [event async for event in _first(port, 2)]
        assert "what was said" not in caplog.text
        if told == "Lagged":
            assert item == Lagged("a", first_missing=1, next_seq=2)
        else:
            assert isinstance(item, DelegationEvent)
            assert (item.kind, item.seq, item.detail) == ("failed", 1, {"reason": "schema"})
        await port.acknowledge("a", 1)
        assert await command(clients.commands, "XLEN", f"{prefix}in:r") == 0
        dead = await command(clients.commands, "XRANGE", f"{prefix}dead", "-", "+")
        assert isinstance(dead, list)
        assert [fields for _, fields in dead] == [["event", text, "reason", "schema"]]


async def test_an_entry_that_is_none_stops_nobody(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings, runtime_id="r") as port, open_clients(settings) as clients:
        inbox = f"mt:{settings.tenant}:{{s00}}:in:r"
        await command(clients.commands, "SET", f"mt:{settings.tenant}:{{s00}}:t:odd", "no task")
        hostile = [
            "",
            "[]",
            "7",
            '{"v":"1.0"}',
            '{"v":"1.0","task_id":"{x}","attempt":1,"seq":1,"kind":"final"}',
        ]
        for text in [*hostile, '{"v":"1.0","task_id":"odd","attempt":1,"seq":1,"kind":"final"}']:
            await command(clients.commands, "XADD", inbox, "*", "event", text)
        await command(clients.commands, "XADD", inbox, "*", "something", "else")
        await port.submit(package("a"))
        [accepted] = [event async for event in _first(port, 1)]
        assert isinstance(accepted, DelegationEvent)
        assert accepted.task_id == "a"
        await port.acknowledge("a", 0)
        assert await command(clients.commands, "XLEN", inbox) == 0
        assert await command(clients.commands, "XLEN", f"mt:{settings.tenant}:{{s00}}:dead") == 6


async def test_what_is_said_of_one_session_keeps_its_order_and_waits_for_no_other(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_clients(settings) as clients:
        for number in range(20):
            for name in ("x", "y"):
                assert port.submit_nowait(package(f"{name}{number}", session_id=name))
            assert port.cancel_nowait(f"x{number}", "enough")
        port.leave_nowait("x")
        await port.flush()
        entries = await command(clients.commands, "XRANGE", f"mt:{settings.tenant}:{{s00}}:tasks", "-", "+")
        assert isinstance(entries, list)
        order = [fields[1] for _, fields in entries]
        assert [task for task in order if task[0] == "x"] == [f"x{number}" for number in range(20)]
        assert [task for task in order if task[0] == "y"] == [f"y{number}" for number in range(20)]
        states = {promise.task_state for promise in (await port.ledger("x")).promises}
        assert states == {"cancelled"}
        assert {promise.task_state for promise in (await port.ledger("y")).promises} == {"queued"}


async def _first(port: DelegationPort, count: int) -> AsyncIterator[BusEvent]:
    async with aclosing(port.events()) as events:
        async for event in events:
            yield event
            count -= 1
            if count == 0:
                return


async def test_the_iteration_ends_when_the_port_is_closed(settings: BusSettings) -> None:
    seen: list[BusEvent] = []

    async def read(port: DelegationPort) -> None:
        seen.extend([event async for event in port.events()])

    async with anyio.create_task_group() as tasks, open_delegation_port(settings) as port:
        tasks.start_soon(read, port)
    assert seen == []


async def test_an_error_of_the_caller_comes_out_of_the_port_as_itself(settings: BusSettings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_delegation_port(settings), open_worker_port(settings):
            raise ZeroDivisionError


async def test_live_workers_are_counted_and_missed_when_they_leave(settings: BusSettings) -> None:
    async with open_delegation_port(settings) as port:
        assert await port.workers() == 0
        async with open_worker_port(settings), open_worker_port(settings):
            with anyio.fail_after(2):
                while port.health.workers != 2:
                    await anyio.sleep(0.01)
        with anyio.fail_after(2):
            while port.health.workers != 0:
                await anyio.sleep(0.01)


async def test_submits_wait_through_an_outage_and_are_done_once(tmp_path: Path, package: MakePackage) -> None:
    server = EmbeddedServer(tmp_path, restart=False).start()
    settings = BusSettings(server.url, presence_s=0.1)
    async with open_delegation_port(settings) as port:
        server.stop()
        for number in range(20):
            assert port.submit_nowait(package(f"t{number}"))
        assert port.submit_nowait(package("short", deadline_s=0.2))
        with anyio.fail_after(2):
            await until_state(port, "degraded")
        since_s = port.health.since_s
        await anyio.sleep(0.3)
        assert port.health.since_s == since_s
        with pytest.raises(BusUnreachableError):
            await port.workers()
        with EmbeddedServer(tmp_path, restart=False), anyio.fail_after(5):
            events = [event async for event in _first(port, 21)]
            await until_state(port, "ok")
            async with open_clients(settings) as clients:
                length = await command(clients.commands, "XLEN", "mt:default:{s00}:tasks")
    kinds = {event.task_id: event.kind for event in events if isinstance(event, DelegationEvent)}
    assert kinds == {"short": "expired", **{f"t{number}": "accepted" for number in range(20)}}
    assert length == 20
