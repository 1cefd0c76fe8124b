"""An attempt's span is part of the trace that the package brings, and holds nothing that was said."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from microturn.background_agent import tracing
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.testing import InMemoryWorkerBus
from microturn.background_agent.worker import Worker
from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Speech, ToolSpec
from microturn.protocols import telemetry_names as names
from microturn.protocols.trace_ids import attempt_ids
from microturn.runtime.telemetry.sampling import TaskIdGenerator
from microturn.tools import ToolRegistry
from tests.background_agent.stand_ins import package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
PACKAGE = package(
    "a secret wish",
    task_id="task-1",
    session_id="session-1",
    trace={"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"},
)


class Talker:
    """An engine that answers, or fails with a text that must not be told."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        if self._fails:
            raise RuntimeError("a secret failure")
        await emit("final", text="a secret answer")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    return exporter


async def run_once(engine: Talker) -> None:
    bus = InMemoryWorkerBus()
    worker = Worker(bus, engine, ToolRegistry(), concurrency=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        record = await bus.submit(PACKAGE)
        await record.done.wait()
        worker.drain()


@pytest.mark.parametrize(("fails", "end"), [(False, "final"), (True, "failed")])
async def test_an_attempt_is_a_child_of_the_hand_over_and_linked_to_it(
    spans: InMemorySpanExporter, *, fails: bool, end: str
) -> None:
    await run_once(Talker(fails=fails))
    (span,) = spans.get_finished_spans()
    assert span.name == names.PROCESS_SPAN
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert [f"{link.context.span_id:016x}" for link in span.links] == [SPAN_ID]
    assert span.attributes is not None
    assert span.attributes[names.DELEGATION_ATTEMPT] == 1
    assert span.attributes[names.DELEGATION_STATE] == end
    assert "secret" not in span.to_json()


async def test_a_package_without_a_trace_begins_one(spans: InMemorySpanExporter) -> None:
    with tracing.attempt_span(PACKAGE.model_copy(update={"trace": {"traceparent": "nonsense"}}), 2):
        pass
    (span,) = spans.get_finished_spans()
    assert span.parent is None
    assert span.links == ()


async def test_a_later_attempt_stands_in_for_the_one_before_and_is_linked_to_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(id_generator=TaskIdGenerator())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    with tracing.attempt_span(PACKAGE, 3) as attempt:
        attempt.ended("final")
    lost_agent, lost, third = exporter.get_finished_spans()
    assert lost.context is not None
    assert lost.context.span_id == attempt_ids("task-1", 2).span_id
    assert lost_agent.parent == lost.context
    assert lost.attributes is not None
    assert lost.attributes[names.DELEGATION_STATE] == names.DELEGATION_LOST
    assert [link.context.span_id for link in third.links] == [
        int(SPAN_ID, 16),
        attempt_ids("task-1", 1).span_id,
    ]
    assert {f"{span.context.trace_id:032x}" for span in (lost_agent, lost, third) if span.context} == {
        TRACE_ID
    }


def test_of_many_events_the_first_every_tenth_and_the_last_are_kept(spans: InMemorySpanExporter) -> None:
    with tracing.attempt_span(PACKAGE, 1):
        for seq in range(1, 26):
            kind: EventKind = "final" if seq == 25 else "partial"
            tracing.note_sent([DelegationEvent(task_id="task-1", attempt=1, seq=seq, kind=kind)])
    (span,) = spans.get_finished_spans()
    assert [event.attributes[names.EVENT_SEQ] for event in span.events if event.attributes] == [1, 11, 21, 25]


class Asker:
    """An engine that asks one question, among many words, and ends when it is answered."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        for _ in range(3):
            await emit("partial", speech=Speech(text="A secret fact."))
        await emit("partial", speech=Speech(text="Which secret?", kind="question"))
        await control.answer(4, 5.0)
        await emit("final")


@pytest.mark.parametrize(("words", "is_answered"), [("the secret one", True), ("", False)])
async def test_a_question_and_its_answer_are_kept_without_a_word_of_them(
    spans: InMemorySpanExporter, words: str, *, is_answered: bool
) -> None:
    bus = InMemoryWorkerBus()
    worker = Worker(bus, Asker(), ToolRegistry(), concurrency=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        record = await bus.submit(PACKAGE)
        while not record.questions():
            await anyio.sleep(0.005)
        bus.answer(PACKAGE.task_id, 4, words)
        await record.done.wait()
        worker.drain()
    (span,) = spans.get_finished_spans()
    kept = [(event.name, dict(event.attributes or {})) for event in span.events]
    assert kept == [
        (names.PIECE_EVENT, {names.EVENT_SEQ: 1, names.EVENT_KIND: "partial", names.SPEECH_KIND: "fact"}),
        (names.PIECE_EVENT, {names.EVENT_SEQ: 4, names.EVENT_KIND: "partial", names.SPEECH_KIND: "question"}),
        (names.ANSWER_EVENT, {names.QUESTION_SEQ: 4, names.IS_ANSWERED: is_answered}),
        (names.PIECE_EVENT, {names.EVENT_SEQ: 5, names.EVENT_KIND: "final"}),
    ]
    assert "secret" not in span.to_json()


def test_a_tool_call_that_an_engine_records_itself_is_there_once(spans: InMemorySpanExporter) -> None:
    spec = ToolSpec(name="lookup", description="", parameters={}, side_effect="unsafe")
    with (
        tracing.TRACER.start_as_current_span("execute_tool lookup"),
        tracing.tool_span(spec, "call-1") as tool,
    ):
        tool.result("a secret", is_error=True)
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes[names.TOOL_CALL_ID] == "call-1"
    assert span.attributes[names.ERROR_TYPE] == tracing.TOOL_ERROR
    assert "secret" not in span.to_json()


def test_content_is_recorded_only_where_it_is_wanted(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tracing.CONTENT_VARIABLE, "1")
    spec = ToolSpec(name="lookup", description="", parameters={})
    with tracing.agent_span(PACKAGE, "loop"), tracing.tool_span(spec, "call-1") as tool:
        tool.arguments('{"about": "x"}')
        tool.result("y" * 10_000, is_error=False)
    inner, outer = spans.get_finished_spans()
    assert inner.attributes is not None
    assert outer.attributes is not None
    assert outer.attributes[names.INTENT] == "a secret wish"
    assert inner.attributes[names.TOOL_ARGUMENTS] == '{"about": "x"}'
    assert inner.attributes[names.TOOL_RESULT] == "y" * tracing.CONTENT_LIMIT_CHARS


def test_an_error_leaves_its_kind_and_a_cancellation_is_no_fault(spans: InMemorySpanExporter) -> None:
    for error in (ValueError("a secret"), asyncio.CancelledError()):
        with pytest.raises(type(error)), tracing.chat_span("m", "openai") as chat:
            chat.input_tokens = 7
            chat.chunk()
            raise error
    failed, cancelled = spans.get_finished_spans()
    assert failed.attributes is not None
    assert failed.attributes[names.ERROR_TYPE] == "ValueError"
    assert failed.attributes[names.INPUT_TOKENS] == 7
    assert (failed.status.is_ok, cancelled.status.is_ok) == (False, True)
    assert "secret" not in failed.to_json()
