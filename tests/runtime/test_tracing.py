"""A delegation's trace: from the words that caused it to the words that were heard, and nothing that was said."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from microturn.protocols import Delegate, Speech
from microturn.protocols import telemetry_names as names
from microturn.runtime import tracing
from microturn.runtime.testing import Answer, Result, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

RESULT = (Result(2000, "final", Speech(text="a secret answer of ten words for you to hear")),)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    return exporter


def staged(*lines: UserLine) -> Stage:
    def ask(text: str) -> Answer:
        return Answer("", (Delegate("a secret wish", 0, 1000),)) if text.endswith("?") else Answer()

    return Stage([UserLine(0, 1000, "what is it?"), *lines], ask, lambda _: RESULT)


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def attribute(span: ReadableSpan, name: str) -> object:
    assert span.attributes is not None
    return span.attributes.get(name)


async def test_one_trace_leads_from_the_turn_to_what_was_heard(spans: InMemorySpanExporter) -> None:
    stage = staged()
    await stage.run(9000)
    (turn,), (send,), (weave,) = (
        named(spans, n) for n in (names.TURN_SPAN, names.SEND_SPAN, names.WEAVE_SPAN)
    )
    assert turn.parent is None
    assert attribute(turn, names.MODEL_FINGERPRINT) == "scripted"
    assert send.parent == turn.context
    assert weave.parent is not None
    assert send.context is not None
    assert weave.parent.span_id == send.context.span_id
    assert len({span.context.trace_id for span in (turn, send, weave) if span.context}) == 1
    assert attribute(weave, names.WEAVE_OUTCOME) == "heard"
    assert attribute(weave, names.WORDS_HEARD) == attribute(weave, names.WORDS_TOTAL) == 10
    assert f"{send.context.span_id:016x}" in stage.background.packages[0].trace["traceparent"]


async def test_what_was_cut_off_and_its_rest_have_a_span_each(spans: InMemorySpanExporter) -> None:
    stage = staged(UserLine(4600, 5600, "wait"))
    await stage.run(16_000)
    outcomes = [attribute(span, names.WEAVE_OUTCOME) for span in named(spans, names.WEAVE_SPAN)]
    assert outcomes == ["interrupted", "heard"]


async def test_nothing_that_was_said_is_in_a_span(spans: InMemorySpanExporter) -> None:
    await staged().run(9000)
    assert spans.get_finished_spans()
    assert not any("secret" in span.to_json() for span in spans.get_finished_spans())


async def test_without_anything_that_records_the_ids_travel_all_the_same() -> None:
    stage = staged()
    await stage.run(2000)
    version, trace_id, span_id, flags = stage.background.packages[0].trace["traceparent"].split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "01")
