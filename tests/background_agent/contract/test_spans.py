"""What an engine leaves in a trace: one agent, one span for each request and each call, and nothing that was said."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from microturn.background_agent import tracing
from microturn.background_agent.scripted_model import Say
from microturn.protocols import telemetry_names as names
from tests.background_agent.contract.stage import Setup, calls, double, play

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "TRACER", provider.get_tracer("test"))
    return exporter


async def test_a_run_is_one_tree_and_nothing_is_in_it_twice(
    setup: Setup, spans: InMemorySpanExporter
) -> None:
    await play(
        setup, calls(double(60), thought="a secret thought"), Say("a secret answer"), intent="a secret wish"
    )
    ended = spans.get_finished_spans()
    assert sorted(span.name for span in ended) == [
        "chat m",
        "chat m",
        "execute_tool double",
        "invoke_agent default",
    ]
    agent = next(span for span in ended if span.name == "invoke_agent default")
    assert agent.context is not None
    parents = {span.parent.span_id for span in ended if span.parent is not None}
    assert parents == {agent.context.span_id}
    for chat in (span for span in ended if span.name == "chat m"):
        assert chat.attributes is not None
        assert chat.attributes[names.INPUT_TOKENS] == 10
        assert chat.attributes[names.OUTPUT_TOKENS] == 5
    assert "secret" not in "".join(span.to_json() for span in ended)
