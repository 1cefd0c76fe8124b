"""Where an application has its libraries instrumented, too, what an engine does is recorded once all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.models.test import TestModel

from microturn.background_agent import tracing
from microturn.background_agent.scripted_model import Say
from tests.background_agent.contract.stage import Setup, calls, double, play

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is recorded by us, by httpx and by pydantic-ai, all instrumented."""
    exporter, provider, instrumentor = InMemorySpanExporter(), TracerProvider(), HTTPXClientInstrumentor()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    instrumentor.instrument(tracer_provider=provider)
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider))
    yield exporter
    Agent.instrument_all(False)
    instrumentor.uninstrument()


async def test_nothing_that_an_engine_does_is_recorded_twice(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    await play(setup, calls(double(60)), Say("It is 120."))
    ended = spans.get_finished_spans()
    found = Counter(span.name for span in ended if span.name != "POST")
    assert found == {"chat m": 2, "execute_tool double": 1, "invoke_agent default": 1}
    chats = {span.context.span_id for span in ended if span.name == "chat m" and span.context}
    requests = [span.parent.span_id for span in ended if span.name == "POST" and span.parent]
    assert len(requests) == len(set(requests)), "a request is recorded twice"
    assert set(requests) <= chats


async def test_an_agent_of_the_applications_own_is_recorded_as_it_wants(spans: InMemorySpanExporter) -> None:
    await Agent(TestModel(), name="own").run("hello")
    assert "invoke_agent own" in {span.name for span in spans.get_finished_spans()}
