"""An attempt's span is part of the trace that the package brings, and holds nothing that was said."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from microturn.background_agent import tracing
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.testing import InMemoryWorkerBus
from microturn.background_agent.worker import Worker
from microturn.protocols import ContextPackage
from microturn.protocols import telemetry_names as names
from microturn.tools import ToolRegistry

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
PACKAGE = ContextPackage(
    task_id="task-1",
    session_id="session-1",
    idempotency_key="task-1",
    intent="a secret wish",
    said_start_ms=0,
    said_end_ms=400,
    local_time="2026-01-01T12:00:00+00:00",
    deadline_s=30,
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
