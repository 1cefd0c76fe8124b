"""One attempt: corrections, receipts, sends that are cut short, events that are too large, readers that are slow."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from pydantic import JsonValue

from microturn.background_agent import Control, Emit, EmitResult, TaskEntry
from microturn.background_agent.attempt import KEPT_CHANGING, RUNS, TOOK_TOO_LONG, WENT_WRONG, Attempt
from microturn.background_agent.event_sender import MOST_WAITING
from microturn.background_agent.testing import InMemoryWorkerBus, TaskRecord
from microturn.protocols import (
    INLINE_LIMIT_BYTES,
    DelegationEvent,
    EventKind,
    Receipt,
    Speech,
    UnavailableError,
)
from microturn.tools import ToolRegistry
from tests.background_agent.stand_ins import Behaviour, OneWayEngine, package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


class Stage:
    """A bus with one task, whose attempts a test runs."""

    def __init__(self, deadline_s: float = 10.0) -> None:
        self.bus = InMemoryWorkerBus()
        self.package = package(deadline_s=deadline_s)

    @property
    def record(self) -> TaskRecord:
        return self.bus.tasks["t"]

    async def run(self, behaviour: Behaviour, *, lease_s: float = 0.08, backlog_limit: int = 500) -> str:
        """Begin the task, once more where it has been begun, and run one attempt to its end."""
        if "t" in self.bus.tasks:
            await self.bus.redeliver("t")
        else:
            await self.bus.submit(self.package)
        entry = await self.bus.take()
        begun = await self.bus.begin(entry)
        assert begun is not None
        attempt = Attempt(self.bus, entry, begun, lease_s=lease_s, backlog_limit=backlog_limit)
        with anyio.fail_after(5):
            return await attempt.run(OneWayEngine(behaviour), ToolRegistry())


def receipt(seq: int, state: str, words_heard: int = 0) -> Receipt:
    return Receipt.model_validate(
        {"task_id": "t", "seq": seq, "state": state, "words_heard": words_heard, "session_ms": 0}
    )


async def test_an_end_that_heeds_no_correction_is_refused_and_the_engine_runs_again_with_it() -> None:
    stage = Stage()
    runs: list[tuple[list[str], list[str], int]] = []
    went_on: list[int] = []

    async def answers(emit: Emit, control: Control) -> None:
        runs.append((list(control.updates), [e.kind for e in control.emitted], control.attempt))
        if len(runs) == 1:
            await emit("partial", speech=Speech(text="It costs 120 euros."))
            stage.bus.update("t", "I meant the grinder")
        await emit("final", text=f"answer {len(runs)}")
        went_on.append(len(runs))

    assert await stage.run(answers) == "final"
    assert runs == [([], [], 1), (["I meant the grinder"], ["partial"], 1)]
    assert went_on == [2]  # Only an end that was taken lets the engine go on.
    assert [(e.seq, e.kind, e.revision) for e in stage.record.events] == [(1, "partial", 0), (2, "final", 1)]
    assert stage.record.events[-1].text == "answer 2"


async def test_what_the_bus_itself_has_sent_is_not_the_work_of_an_earlier_run() -> None:
    stage = Stage()
    record = await stage.bus.submit(stage.package)
    record.events.append(DelegationEvent(task_id="t", attempt=0, seq=0, kind="accepted"))

    async def answers(emit: Emit, control: Control) -> None:
        assert list(control.emitted) == []
        await emit("final")

    assert await stage.run(answers) == "final"


async def test_an_event_that_the_bus_refuses_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    emit_to_bus, refusals = stage.bus.emit, iter([True])

    async def refuses_once(
        task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        if next(refusals, False):
            raise UnavailableError("the bus does not take this event")
        return await emit_to_bus(task_id, attempt, events, finish=finish)

    monkeypatch.setattr(stage.bus, "emit", refuses_once)

    async def talks(emit: Emit, control: Control) -> None:
        await emit("partial", text="refused")

    assert await stage.run(talks) == "failed"
    assert [(e.seq, e.kind) for e in stage.record.events] == [(1, "failed")]


async def test_a_correction_that_came_with_a_beat_is_not_forgotten_by_an_engine_that_never_looks() -> None:
    stage = Stage()
    runs = 0

    async def looks_at_nothing(emit: Emit, control: Control) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            stage.bus.update("t", "the other one")
            while not control.updates:
                await anyio.sleep(0.005)
        await emit("final", text=f"run {runs}")

    assert await stage.run(looks_at_nothing) == "final"
    assert (runs, stage.record.events[-1].text, stage.record.events[-1].revision) == (2, "run 2", 1)
    assert stage.record.seq == 1


async def test_an_engine_that_takes_corrections_in_is_not_run_again() -> None:
    stage = Stage()
    heeded: list[str] = []

    async def heeds(emit: Emit, control: Control) -> None:
        await emit("partial", text="before")
        stage.bus.update("t", "make it four")
        while not control.has_news:
            await anyio.sleep(0.005)
        await emit("partial", text="not heeded yet")
        heeded.extend(control.news())
        await emit("partial", text="heeded")
        await emit("final")

    assert await stage.run(heeds) == "final"
    assert heeded == ["make it four"]
    assert [(e.text, e.revision) for e in stage.record.events] == [
        ("before", 0),
        ("not heeded yet", 0),
        ("heeded", 1),
        ("", 1),
    ]


async def test_corrections_from_before_the_attempt_are_known_from_the_start() -> None:
    stage = Stage()
    await stage.bus.submit(stage.package)
    stage.bus.update("t", "one")
    stage.bus.update("t", "two")

    async def answers(emit: Emit, control: Control) -> None:
        assert (control.updates, control.revision, control.has_news) == (["one", "two"], 2, False)
        await emit("final")

    assert await stage.run(answers) == "final"
    assert [e.revision for e in stage.record.events] == [2]


async def test_a_failure_is_refused_too_while_a_correction_may_mend_it() -> None:
    stage = Stage()
    runs = 0

    async def fails_first(emit: Emit, control: Control) -> None:
        nonlocal runs
        runs += 1
        if not control.updates:
            stage.bus.update("t", "then in euros")
            raise ValueError("no such currency")
        await emit("final")

    assert await stage.run(fails_first) == "final"
    assert (runs, stage.record.kinds()) == (2, ["final"])


async def test_a_task_that_is_corrected_again_and_again_ends_all_the_same() -> None:
    stage = Stage()
    runs = 0

    async def is_corrected(emit: Emit, control: Control) -> None:
        nonlocal runs
        runs += 1
        stage.bus.update("t", f"correction {runs}")
        await emit("final")

    assert await stage.run(is_corrected) == "failed"
    assert runs == RUNS
    assert stage.record.spoken() == [KEPT_CHANGING]
    assert stage.record.events[-1].revision == RUNS


async def test_the_deadline_holds_over_all_runs() -> None:
    stage = Stage(deadline_s=0.15)
    remaining: list[float] = []

    async def is_corrected_once(emit: Emit, control: Control) -> None:
        remaining.append(control.remaining_s)
        if len(remaining) > 1:
            await anyio.sleep_forever()
        await anyio.sleep(0.05)
        stage.bus.update("t", "the other one")
        await emit("final")

    began_s = anyio.current_time()
    assert await stage.run(is_corrected_once) == "expired"
    assert anyio.current_time() - began_s < 2
    assert remaining[1] <= remaining[0] - 0.04
    assert (stage.record.spoken(), stage.record.events[-1].revision) == ([TOOK_TOO_LONG], 1)


async def test_a_cancelled_task_ends_as_cancelled_however_often_it_was_corrected() -> None:
    stage = Stage()

    async def is_corrected_and_cancelled(emit: Emit, control: Control) -> None:
        stage.bus.update("t", "the other one")
        stage.bus.cancel("t")
        await emit("final")

    assert await stage.run(is_corrected_and_cancelled) == "cancelled"
    assert stage.record.kinds() == ["cancelled"]


async def test_receipts_reach_a_running_engine_and_never_go_backwards() -> None:
    stage = Stage()
    seen: list[tuple[str, int]] = []

    async def listens(emit: Emit, control: Control) -> None:
        async def next_is(state: str, words: int) -> None:
            while (known := control.receipts.get(1)) is None or (known.state, known.words_heard) != (
                state,
                words,
            ):
                await anyio.sleep(0.005)
            seen.append((state, words))

        await emit("partial", speech=Speech(text="one two three"))
        stage.bus.receipt(receipt(1, "woven"))
        await emit("progress")
        await next_is("woven", 0)
        stage.bus.receipt(receipt(1, "interrupted", 2))
        await next_is("interrupted", 2)
        stage.bus.receipt(receipt(1, "woven", 1))
        await next_is("woven", 2)
        stage.bus.receipt(receipt(1, "superseded"))
        stage.bus.receipt(receipt(1, "queued"))
        await next_is("superseded", 2)
        await emit("final")

    assert await stage.run(listens) == "final"
    assert len(seen) == 4


async def test_a_second_attempt_knows_the_receipts_from_the_start() -> None:
    stage = Stage()

    async def dies(emit: Emit, control: Control) -> None:
        await emit("partial", speech=Speech(text="one two"))
        stage.bus.receipt(receipt(1, "woven"))
        stage.bus.receipt(receipt(1, "heard", 2))
        await stage.bus.begin(TaskEntry("", stage.package))  # Another takes over.
        await anyio.sleep_forever()

    async def answers(emit: Emit, control: Control) -> None:
        assert {seq: one.state for seq, one in control.receipts.items()} == {1: "heard"}
        await emit("final")

    assert await stage.run(dies) == "fenced"
    assert await stage.run(answers) == "final"


class SlowBus(InMemoryWorkerBus):
    """A bus whose answer to one event comes late, so that whoever sends it can be cut short."""

    def __init__(self, late: int, *, is_taken: bool) -> None:
        """`is_taken`: whether the bus has the event at once, or only when it answers."""
        super().__init__()
        self.calls: list[list[int]] = []
        self._late = late
        self._is_taken = is_taken

    async def emit(
        self, task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        self.calls.append([event.seq for event in events])
        if self._late not in self.calls[-1]:
            return await super().emit(task_id, attempt, events, finish=finish)
        self._late = -1
        if not self._is_taken:
            await anyio.sleep(0.1)
        result = await super().emit(task_id, attempt, events, finish=finish)
        if self._is_taken:
            await anyio.sleep(0.1)
        return result


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.parametrize("kind", ["progress", "partial", "tool_started"])
async def test_an_event_whose_sender_was_cut_short_takes_no_other_events_number(
    kind: EventKind, is_taken: bool
) -> None:
    stage = Stage()
    stage.bus = SlowBus(2, is_taken=is_taken)

    async def cuts_a_report_short(emit: Emit, control: Control) -> None:
        await emit("tool_started", text="1")
        with anyio.move_on_after(0.02):
            await emit(kind, text="2")
        await emit("tool_finished", text="3")
        await emit("final", text="4")

    assert await stage.run(cuts_a_report_short) == "final"
    assert [(e.seq, e.text) for e in stage.record.events] == [(1, "1"), (2, "2"), (3, "3"), (4, "4")]


@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_end_whose_sending_the_deadline_cut_short_is_the_only_end(is_taken: bool) -> None:
    stage = Stage(deadline_s=0.05)
    stage.bus = SlowBus(1, is_taken=is_taken)

    async def answers(emit: Emit, control: Control) -> None:
        await emit("final", text="in time")

    assert await stage.run(answers, lease_s=60) == "final"
    assert [e.text for e in stage.record.events] == ["in time"]


async def test_what_is_emitted_while_a_call_is_under_way_goes_together_and_nobody_waits_for_it() -> None:
    stage = Stage()
    bus = stage.bus = SlowBus(1, is_taken=True)
    emitted_s: list[float] = []

    async def talks(emit: Emit, control: Control) -> None:
        began_s = anyio.current_time()
        for number in range(20):
            await emit("partial", text=str(number))
        emitted_s.append(anyio.current_time() - began_s)
        await emit("final", text="end")

    assert await stage.run(talks) == "final"
    assert emitted_s[0] < 0.08  # The first answer takes 0.1 s.
    assert bus.calls == [[1], list(range(2, 22))]
    assert [e.text for e in stage.record.events] == [*map(str, range(20)), "end"]


@pytest.mark.parametrize("kind", ["tool_started", "tool_finished"])
async def test_an_engine_goes_on_after_a_record_of_a_tool_call_only_once_it_is_stored(
    kind: EventKind,
) -> None:
    stage = Stage()
    stage.bus = SlowBus(2, is_taken=False)

    async def calls_a_tool(emit: Emit, control: Control) -> None:
        await emit("partial", text="first")
        await emit(kind, text="call")
        assert [e.text for e in stage.record.events] == ["first", "call"]
        await emit("final")

    assert await stage.run(calls_a_tool) == "final"


async def test_no_more_than_a_bounded_number_of_events_waits_to_be_sent() -> None:
    stage = Stage()
    bus = stage.bus = SlowBus(1, is_taken=True)

    async def talks(emit: Emit, control: Control) -> None:
        for number in range(MOST_WAITING + 10):
            await emit("partial", text=str(number))
        await emit("final")

    assert await stage.run(talks) == "final"
    assert bus.calls[:2] == [[1], list(range(2, MOST_WAITING + 2))]
    assert [e.seq for e in stage.record.events] == list(range(1, MOST_WAITING + 12))


async def test_what_came_before_a_refused_end_is_sent_and_what_came_after_it_is_not() -> None:
    stage = Stage()
    stage.bus = SlowBus(1, is_taken=True)
    seen: list[list[str]] = []

    async def answers(emit: Emit, control: Control) -> None:
        seen.append([e.text for e in control.emitted])
        if control.updates:
            await emit("final", text="heeded")
            return
        async with anyio.create_task_group() as tasks:
            await emit("partial", text="one")
            await emit("partial", text="two")
            stage.bus.update("t", "the other one")
            tasks.start_soon(_emit_final, emit)
            await anyio.wait_all_tasks_blocked()
            await emit("partial", text="too late")
            await anyio.sleep_forever()

    assert await stage.run(answers) == "final"
    assert seen == [[], ["one", "two"]]
    assert [(e.seq, e.text) for e in stage.record.events] == [(1, "one"), (2, "two"), (3, "heeded")]


async def _emit_final(emit: Emit) -> None:
    await emit("final", text="not heeded")


async def test_what_waits_when_the_deadline_passes_comes_before_the_end() -> None:
    stage = Stage(deadline_s=0.05)
    stage.bus = SlowBus(1, is_taken=True)

    async def talks_and_hangs(emit: Emit, control: Control) -> None:
        for number in range(3):
            await emit("partial", text=str(number))
        await anyio.sleep_forever()

    assert await stage.run(talks_and_hangs) == "expired"
    assert [(e.seq, e.kind) for e in stage.record.events] == [
        (1, "partial"),
        (2, "partial"),
        (3, "partial"),
        (4, "expired"),
    ]


async def test_an_attempt_that_is_fenced_while_events_wait_sends_none_of_them() -> None:
    stage = Stage()
    stage.bus = SlowBus(1, is_taken=False)

    async def talks(emit: Emit, control: Control) -> None:
        await emit("partial", text="one")
        await emit("partial", text="two")
        await stage.bus.begin(TaskEntry("", stage.package))  # Another takes over.
        await emit("tool_started", text="three")
        raise AssertionError("the engine went on")

    assert await stage.run(talks) == "fenced"
    assert stage.record.events == []


async def test_an_event_that_cannot_be_encoded_is_the_engines_failure_and_keeps_its_number_free() -> None:
    stage = Stage()
    deep: JsonValue = "leaf"
    for _ in range(2000):
        deep = [deep]

    async def sends_it(emit: Emit, control: Control) -> None:
        await emit("partial", text="fine")
        await emit("progress", detail={"deep": deep})

    assert await stage.run(sends_it) == "failed"
    assert [(e.seq, e.kind) for e in stage.record.events] == [(1, "partial"), (2, "failed")]
    assert stage.record.spoken() == [WENT_WRONG]


@pytest.mark.parametrize("letter", ["x", '"', "é", "\n", "\u0001"])
async def test_a_text_that_is_too_large_is_cut_in_its_middle(letter: str) -> None:
    stage = Stage()

    async def talks(emit: Emit, control: Control) -> None:
        await emit("final", speech=Speech(text="Here it is."), text="BEGIN" + letter * 900_000 + "END")

    assert await stage.run(talks) == "final"
    (event,) = stage.record.events
    assert len(event.encode().encode()) <= INLINE_LIMIT_BYTES
    assert event.text.startswith("BEGIN")
    assert event.text.endswith("END")
    assert "bytes left out" in event.text
    assert event.speech == Speech(text="Here it is.")


async def test_words_and_details_that_are_too_large_are_cut_and_small_ones_stay() -> None:
    stage = Stage()
    detail: dict[str, JsonValue] = {"tool": "lookup", "call": 3, "arguments": {"q": "x" * 300_000}}

    async def talks(emit: Emit, control: Control) -> None:
        await emit("tool_finished", speech=Speech(text="word " * 100_000, priority=4), detail=detail)
        await emit("final")

    assert await stage.run(talks) == "final"
    event = stage.record.events[0]
    assert len(event.encode().encode()) <= INLINE_LIMIT_BYTES
    assert event.detail["tool"] == "lookup"
    assert event.detail["call"] == 3
    assert isinstance(event.detail["arguments"], dict)
    assert event.speech is not None
    assert (event.speech.priority, event.speech.text[:10]) == (4, "word word ")


async def test_an_engine_that_ends_the_process_ends_its_task_alone() -> None:
    async def leaves(emit: Emit, control: Control) -> None:
        raise SystemExit(3)

    stage = Stage()
    assert await stage.run(leaves) == "failed"
    assert stage.record.events[-1].detail == {"reason": "SystemExit"}


async def test_a_reader_that_reads_slowly_gets_every_partial_in_order_and_only_the_newest_reports() -> None:
    stage = Stage()
    parts = 60

    async def talks(emit: Emit, control: Control) -> None:
        for number in range(parts):
            await emit("progress", text=f"report {number}")
            await emit("partial", text=f"part {number}")
            await emit("tool_started", text=f"tool {number}")
        await emit("final", text="end")

    async def reads_slowly() -> None:
        while True:
            await anyio.sleep(0.01)
            stage.record.unread = max(0, stage.record.unread - 10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reads_slowly)
        assert await stage.run(talks, lease_s=0.04, backlog_limit=5) == "final"
        tasks.cancel_scope.cancel()
    texts = [e.text for e in stage.record.events]
    assert [t for t in texts if t.startswith("part")] == [f"part {n}" for n in range(parts)]
    assert [t for t in texts if t.startswith("tool")] == [f"tool {n}" for n in range(parts)]
    reports = [int(t.split()[1]) for t in texts if t.startswith("report")]
    assert reports == sorted(set(reports))
    assert [e.seq for e in stage.record.events] == list(range(1, len(texts) + 1))
    assert texts[-1] == "end"


async def test_a_reader_that_never_reads_does_not_outlast_the_deadline() -> None:
    stage = Stage(deadline_s=0.15)

    async def talks(emit: Emit, control: Control) -> None:
        while True:
            await emit("partial", text="word")
            await anyio.lowlevel.checkpoint()

    assert await stage.run(talks, backlog_limit=3) == "expired"
    assert stage.record.kinds() == ["partial"] * 4 + ["expired"]


async def test_an_attempt_that_waits_for_a_slow_reader_hears_soon_that_it_has_caught_up() -> None:
    stage = Stage()
    waited_s: list[float] = []

    async def talks(emit: Emit, control: Control) -> None:
        for number in range(4):
            await emit("partial", text=str(number))
        stage.record.unread = 0
        began_s = anyio.current_time()
        await emit("partial", text="4")
        waited_s.append(anyio.current_time() - began_s)
        await emit("final")

    assert await stage.run(talks, lease_s=8.0, backlog_limit=3) == "final"
    assert waited_s[0] < 1.0  # A beat comes every 2 s.
    assert len(stage.record.events) == 6
