"""The worker on an in-memory bus: order, cancellation, deadlines, fencing, drains, and engines that fail."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from microturn.background_agent import (
    LOCAL,
    Begun,
    ChatClient,
    ChatLimits,
    Control,
    Emit,
    LoopEngine,
    TaskEntry,
    Worker,
)
from microturn.background_agent.attempt import MODEL_FAILED, TOOK_TOO_LONG, WENT_WRONG
from microturn.background_agent.scripted_model import Fail, Line, Refuse, scripted_model
from microturn.background_agent.testing import InMemoryWorkerBus, TaskRecord
from microturn.protocols import ContextPackage, Speech, UnavailableError
from microturn.tools import ToolRegistry
from tests.background_agent.stand_ins import Behaviour, OneWayEngine, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def task(task_id: str = "t1", **changes: object) -> ContextPackage:
    return package("SECRET INTENT", task_id=task_id, **{"deadline_s": 10.0, **changes})


@asynccontextmanager
async def working(
    behaviour: Behaviour,
    *,
    lease_s: float = 0.08,
    backlog_limit: int = 500,
    concurrency: int = 2,
    urgent_lanes: int = 1,
) -> AsyncIterator[tuple[InMemoryWorkerBus, Worker]]:
    """A worker that runs for as long as the block, and then drains."""
    bus = InMemoryWorkerBus()
    worker = Worker(
        bus,
        OneWayEngine(behaviour),
        ToolRegistry(),
        concurrency=concurrency,
        urgent_lanes=urgent_lanes,
        lease_s=lease_s,
        backlog_limit=backlog_limit,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        yield bus, worker
        worker.drain()


async def ended(record: TaskRecord, within_s: float = 2.0) -> TaskRecord:
    with anyio.fail_after(within_s):
        await record.done.wait()
    return record


async def answer(emit: Emit, control: Control) -> None:
    await emit("partial", speech=Speech(text="One."))
    await emit("final", speech=Speech(text="Two."), text="One. Two.")


async def forever(emit: Emit, control: Control) -> None:
    await emit("progress", text="still at it")
    await anyio.sleep_forever()


async def test_events_come_in_order_and_end_the_task() -> None:
    async with working(answer) as (bus, worker):
        record = await ended(await bus.submit(task()))
    assert [(e.seq, e.kind) for e in record.events] == [(1, "partial"), (2, "final")]
    assert record.spoken() == ["One.", "Two."]
    assert worker.statistics().final == 1
    assert worker.statistics().running == 0


async def test_an_event_after_the_end_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    async def talks_on(emit: Emit, control: Control) -> None:
        await answer(emit, control)
        await emit("final", text="again")

    async with working(talks_on) as (bus, _):
        record = await ended(await bus.submit(task()))
    assert record.kinds() == ["partial", "final"]
    assert "after the end" in caplog.text


async def test_no_more_tasks_run_at_once_than_allowed() -> None:
    running, most = 0, 0

    async def counts(emit: Emit, control: Control) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01)
        running -= 1
        await emit("final")

    async with working(counts, concurrency=2) as (bus, _):
        records = [await bus.submit(task(f"t{n}")) for n in range(6)]
        for record in records:
            await ended(record)
    assert most == 2


async def test_an_urgent_task_runs_while_all_ordinary_slots_are_taken() -> None:
    async with working(forever, concurrency=2) as (bus, worker):
        ordinary = [await bus.submit(task(f"t{n}")) for n in range(3)]
        while worker.statistics().running < 2:
            await anyio.sleep(0.005)
        urgent = [await bus.submit(task(f"u{n}", urgent=True)) for n in range(2)]
        while not urgent[0].events:
            await anyio.sleep(0.005)
        await anyio.sleep(0.02)
        assert [bool(record.events) for record in (*ordinary, *urgent)] == [True, True, False, True, False]
        assert (worker.statistics().running, worker.statistics().urgent) == (3, 1)
        bus.cancel(
            "t0"
        )  # The slot that becomes free goes to the urgent task, though an ordinary one waits longer.
        while not urgent[1].events:
            await anyio.sleep(0.005)
        assert not ordinary[2].events
        for record in (*ordinary, *urgent):
            record.cancelled = True
    assert worker.statistics().urgent == 2


async def test_a_lane_for_urgent_tasks_takes_no_other() -> None:
    async with working(forever, concurrency=1, urgent_lanes=2) as (bus, worker):
        records = [await bus.submit(task(f"t{n}")) for n in range(3)]
        while worker.statistics().running < 1:
            await anyio.sleep(0.005)
        await anyio.sleep(0.05)
        assert worker.statistics().running == 1
        for record in records:
            record.cancelled = True
        worker.drain()


async def test_without_a_lane_of_their_own_urgent_tasks_are_first_in_line() -> None:
    order: list[str] = []

    class Notes:
        async def run(
            self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control
        ) -> None:
            order.append(package.task_id)
            await emit("final")

    bus = InMemoryWorkerBus()
    records = [await bus.submit(task(name, urgent=name == "u")) for name in ("a", "b", "u")]
    worker = Worker(bus, Notes(), ToolRegistry(), concurrency=1, urgent_lanes=0, lease_s=0.08)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.run)
        for record in records:
            await ended(record)
        worker.drain()
    assert order == ["u", "a", "b"]


@pytest.mark.parametrize(("name", "value"), [("concurrency", 0), ("urgent_lanes", -1)])
def test_a_worker_without_room_is_refused(name: str, value: int) -> None:
    numbers = {"concurrency": 1, "urgent_lanes": 1, name: value}
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        Worker(
            InMemoryWorkerBus(),
            OneWayEngine(answer),
            ToolRegistry(),
            concurrency=numbers["concurrency"],
            urgent_lanes=numbers["urgent_lanes"],
        )


async def test_a_cancel_that_rides_on_a_beat_stops_a_silent_engine() -> None:
    async with working(forever) as (bus, worker):
        record = await bus.submit(task())
        while record.beats < 1:
            await anyio.sleep(0.005)
        bus.cancel("t1")
        await ended(record, within_s=0.1)
    assert record.kinds() == ["progress", "cancelled"]
    assert record.speeches() == []
    assert worker.statistics().cancelled == 1


async def test_a_cancel_that_rides_on_an_event_stops_a_talking_engine_at_once() -> None:
    sent = 0

    async def talks(emit: Emit, control: Control) -> None:
        nonlocal sent
        while True:
            await emit("partial", text="word")
            sent += 1
            await anyio.sleep(0.005)

    async with working(talks, lease_s=60) as (bus, _):
        record = await bus.submit(task())
        while sent < 3:
            await anyio.sleep(0.005)
        bus.cancel("t1")
        before = len(record.events)
        await ended(record, within_s=0.1)
    assert record.kinds()[-1] == "cancelled"
    assert len(record.events) <= before + 2
    assert [e.seq for e in record.events] == list(range(1, len(record.events) + 1))


async def test_the_deadline_ends_a_task_and_the_user_is_told() -> None:
    async with working(forever) as (bus, _):
        record = await ended(await bus.submit(task(deadline_s=0.05)))
    assert record.kinds() == ["progress", "expired"]
    assert record.spoken() == [TOOK_TOO_LONG]


async def test_an_engine_that_raises_ends_in_an_apology_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def raises(emit: Emit, control: Control) -> None:
        raise ValueError("SECRET WORDS of the user")

    with caplog.at_level(logging.DEBUG):
        async with working(raises) as (bus, _):
            record = await ended(await bus.submit(task()))
    (event,) = record.events
    assert event.kind == "failed"
    assert record.spoken() == [WENT_WRONG]
    assert event.detail == {"reason": "ValueError"}
    assert "SECRET" not in caplog.text
    assert "ValueError" in caplog.text


async def test_an_error_of_ours_inside_a_group_is_named_with_its_text() -> None:
    async def raises(emit: Emit, control: Control) -> None:
        raise ExceptionGroup("two at once", [UnavailableError("the index is not there")])

    async with working(raises) as (bus, _):
        record = await ended(await bus.submit(task()))
    assert record.events[0].detail == {"reason": "UnavailableError", "message": "the index is not there"}
    assert record.spoken() == [MODEL_FAILED]


async def test_an_engine_that_ends_without_an_answer_has_failed() -> None:
    async def says_nothing(emit: Emit, control: Control) -> None:
        await emit("progress")

    async with working(says_nothing) as (bus, _):
        record = await ended(await bus.submit(task()))
    assert record.kinds() == ["progress", "failed"]


async def test_a_fenced_attempt_stops_in_silence_and_the_next_one_goes_on_with_the_numbers() -> None:
    known: list[tuple[int, list[str]]] = []

    async def first_hangs(emit: Emit, control: Control) -> None:
        known.append((control.attempt, [event.kind for event in control.emitted]))
        if control.attempt == 1:
            await emit("partial", speech=Speech(text="First."))
            await anyio.sleep_forever()
        await emit("final", speech=Speech(text="Second."))

    async with working(first_hangs) as (bus, worker):
        record = await bus.submit(task())
        while not record.events:
            await anyio.sleep(0.005)
        await bus.redeliver("t1")
        await ended(record)
        while worker.statistics().fenced == 0:
            await anyio.sleep(0.005)
    assert [(e.attempt, e.seq, e.kind) for e in record.events] == [(1, 1, "partial"), (2, 2, "final")]
    assert known == [(1, []), (2, ["partial"])]


async def test_corrections_reach_a_running_engine() -> None:
    async def waits_for_a_correction(emit: Emit, control: Control) -> None:
        while not control.updates:
            await anyio.sleep(0.005)
        await emit("final", text=" and ".join(control.updates))

    async with working(waits_for_a_correction) as (bus, _):
        record = await bus.submit(task())
        bus.update("t1", "make it four")
        await ended(record)
    assert record.events[-1].text == "make it four"


async def test_a_reader_that_is_behind_makes_the_engine_wait_and_reports_are_merged() -> None:
    at_mark = anyio.Event()

    async def talks(emit: Emit, control: Control) -> None:
        for n in range(4):
            await emit("partial", text=f"p{n}")
        for n in range(5):
            await emit("progress", text=f"report {n}")
        at_mark.set()
        await emit("partial", text="last")
        await emit("final")

    async with working(talks, lease_s=0.04, backlog_limit=3) as (bus, _):
        record = await bus.submit(task())
        with anyio.fail_after(1):
            await at_mark.wait()
        await anyio.sleep(0.03)
        assert [e.text for e in record.events] == ["p0", "p1", "p2", "p3"]
        bus.read_all("t1")
        await ended(record)
    assert [e.text for e in record.events] == ["p0", "p1", "p2", "p3", "report 4", "last", ""]
    assert [e.seq for e in record.events] == list(range(1, 8))


async def test_a_bus_that_fails_costs_one_attempt_and_not_the_worker(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(answer) as (bus, worker):
        begin = bus.begin
        fails = iter([True])

        async def begin_or_fail(entry: TaskEntry) -> Begun | None:
            if next(fails, False):
                raise OSError("SECRET")
            return await begin(entry)

        monkeypatch.setattr(bus, "begin", begin_or_fail)
        record = await bus.submit(task())
        while not worker.statistics().abandoned:
            await anyio.sleep(0.005)
        await bus.redeliver("t1")
        await ended(record)
    assert record.kinds() == ["partial", "final"]
    assert "OSError" in caplog.text
    assert "SECRET" not in caplog.text


async def test_draining_takes_nothing_more_and_finishes_what_runs() -> None:
    release = anyio.Event()

    async def waits(emit: Emit, control: Control) -> None:
        await release.wait()
        await emit("final")

    async with working(waits, concurrency=1) as (bus, worker):
        running = await bus.submit(task("t1"))
        queued = await bus.submit(task("t2"))
        while worker.statistics().running == 0:
            await anyio.sleep(0.005)
        worker.drain()
        release.set()
        await ended(running)
    assert running.kinds() == ["final"]
    assert queued.events == []


async def test_a_signal_drains() -> None:
    bus, began, release = InMemoryWorkerBus(), anyio.Event(), anyio.Event()

    async def waits(emit: Emit, control: Control) -> None:
        began.set()
        await release.wait()
        await emit("final")

    worker = Worker(bus, OneWayEngine(waits), ToolRegistry(), lease_s=0.08)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: worker.run(drain_on=(signal.SIGUSR1,)))
        record = await bus.submit(task())
        await began.wait()
        os.kill(os.getpid(), signal.SIGUSR1)
        await anyio.sleep(0.02)
        release.set()
    assert record.kinds() == ["final"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (Refuse(503), "ModelDownError"),
        (Fail("hang", '{"final": "It is'), "ModelSlowError"),
        (Fail("cut", '{"final": "It is'), "ModelBrokeOffError"),
        (Fail("end", '{"final": "It is'), "ModelBrokeOffError"),
        (Refuse(401), "ModelRequestError"),
    ],
)
async def test_a_model_server_that_fails_is_told_to_the_user(line: Line, reason: str) -> None:
    limits = ChatLimits(first_byte_s=0.2, silence_s=0.2, retries=0)
    bus = InMemoryWorkerBus()
    async with (
        scripted_model(line) as model,
        LoopEngine(ChatClient(model.url, "m", key="sk-secret", limits=limits), LOCAL) as engine,
        anyio.create_task_group() as group,
    ):
        worker = Worker(bus, engine, ToolRegistry(), lease_s=0.1)
        group.start_soon(worker.run)
        record = await ended(await bus.submit(task()))
        worker.drain()
    event = record.events[-1]
    assert (event.kind, event.detail["reason"]) == ("failed", reason)
    assert record.spoken()[-1] in {MODEL_FAILED, WENT_WRONG}
    assert "sk-secret" not in str(event.detail)
    assert "It is" not in str(event.detail)
