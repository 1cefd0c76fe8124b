"""What is measured of a session: ticks, delegations, and the record of the last ticks before a fault."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from microturn.protocols import DelegationEvent, EventKind, FloorState, Receipt, ReceiptState
from microturn.protocols import telemetry_names as names
from microturn.protocols.trace_ids import send_ids
from microturn.runtime.events import Delegated, DelegationMoved, ReceiptIssued, SpeechBegan, TickDone
from microturn.runtime.telemetry import delegation_metrics, flight_recorder, tick_metrics
from microturn.runtime.telemetry.running_trace import RunningTrace
from microturn.runtime.telemetry.session_telemetry import SessionTelemetry
from microturn.runtime.telemetry.tick_metrics import MissedReason, TickMetrics, missed_reason

pytestmark = pytest.mark.unit


class Measured:
    """What was recorded: sums of histograms and counters by name and label, and spans."""

    def __init__(self, reader: InMemoryMetricReader, exporter: InMemorySpanExporter) -> None:
        self._reader = reader
        self._exporter = exporter

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of a counter or a histogram with exactly these labels."""
        data = self._reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points if metric.name == name else ():
                        if set((point.attributes or {}).values()) == set(labels.values()):
                            return float(getattr(point, "sum", getattr(point, "value", 0.0)))
        return None

    @property
    def flights(self) -> list[ReadableSpan]:
        """The records that were written."""
        return [span for span in self._exporter.get_finished_spans() if span.name == names.FLIGHT_SPAN]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    """Let the instruments record here: each module's are made anew with a meter of this test."""
    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    meter = MeterProvider([reader]).get_meter("test")
    for module in (tick_metrics, delegation_metrics):
        for attribute, instrument in list(vars(module).items()):
            kind = type(instrument).__name__
            if kind in ("_ProxyHistogram", "_ProxyCounter"):
                made = meter.create_histogram if kind == "_ProxyHistogram" else meter.create_counter
                monkeypatch.setattr(module, attribute, made(instrument._name))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(flight_recorder, "TRACER", provider.get_tracer("test"))
    yield Measured(reader, exporter)
    provider.shutdown()


def tick(index: int, *, count: int = 1, step_ms: float = 50.0, runtime_ms: float = 1.0) -> TickDone:
    return TickDone(index, count, step_ms, runtime_ms, 2.0, FloorState(), 0.25)


def moved(kind: EventKind, at_ms: float = 2500.0) -> DelegationMoved:
    return DelegationMoved(at_ms, DelegationEvent(task_id="t", attempt=1, seq=3, kind=kind))


def receipt(state: ReceiptState) -> Receipt:
    return Receipt(task_id="t", seq=1, state=state, words_heard=0, words_total=2, session_ms=2600)


DELEGATED = Delegated(1000.0, "t", "a secret wish", "default", {"traceparent": send_ids("t").traceparent})


def test_ticks_are_timed_once_for_all_sessions_and_missed_ones_counted_with_their_reason(
    measured: Measured,
) -> None:
    ticks = TickMetrics()
    for event in (tick(0), tick(1, step_ms=350.0), tick(3, count=2)):
        for session in (SessionTelemetry("one", ticks=ticks), SessionTelemetry("two", ticks=ticks)):
            session(event)
    assert measured.value(names.TICK_DURATION) == pytest.approx(0.404)
    assert measured.value(names.TICK_RUNTIME) == pytest.approx(0.004)
    assert measured.value(names.TICK_LATENESS) == pytest.approx(0.006)
    assert measured.value(names.TICK_MISSED, reason="model") == 1


@pytest.mark.parametrize(
    ("step_ms", "runtime_ms", "reason"), [(50, 50, "loop"), (150, 0, "model"), (50, 150, "runtime")]
)
def test_a_missed_tick_has_the_reason_that_took_most_of_the_time(
    step_ms: float, runtime_ms: float, reason: MissedReason
) -> None:
    assert missed_reason(step_ms, runtime_ms) == reason


def test_a_delegation_is_counted_timed_and_heard(measured: Measured) -> None:
    session = SessionTelemetry("s")
    session(DELEGATED)
    session(moved("partial"))
    for at_ms in (2600.0, 4000.0):
        session(SpeechBegan(at_ms, "u", "a secret", "woven", "t"))
    states: tuple[ReceiptState, ...] = ("woven", "heard")
    for state in states:
        session(ReceiptIssued(receipt(state)))
    session(moved("final"))
    assert measured.value(names.DELEGATIONS, agent="default") == 1
    assert measured.value(names.FIRST_WORD) == pytest.approx(1.6)
    assert measured.value(names.DELEGATION_ENDS, state="final") == 1
    assert measured.value(names.DELEGATION_DURATION, state="final") == pytest.approx(1.5)
    assert measured.value(names.RECEIPTS, outcome="heard") == 1
    assert measured.value(names.RECEIPTS, outcome="woven") is None


def test_what_is_measured_while_a_delegation_runs_is_in_its_trace() -> None:
    running = RunningTrace()
    assert running.context is None
    running(DELEGATED)
    assert running.context is not None
    running(moved("partial"))
    assert running.context is not None
    running(moved("final"))
    assert running.context is None


def test_a_missed_tick_has_the_ticks_before_it_written_once(measured: Measured) -> None:
    session = SessionTelemetry("s")
    for index in range(200):
        session(tick(index))
    session(DELEGATED)
    session(tick(202, count=3))
    session(tick(204, count=2))
    (flight,) = measured.flights
    assert flight.attributes is not None
    rows = json.loads(str(flight.attributes[names.FLIGHT_TICKS]))
    columns = flight.attributes[names.FLIGHT_COLUMNS]
    assert isinstance(columns, tuple)
    assert len(rows) == flight_recorder.TICKS
    last = dict(zip(columns, rows[-1], strict=True))
    assert (last["index"], last["count"], last["floor"], last["happened"]) == (
        202,
        3,
        "nobody",
        ["Delegated"],
    )
    assert flight.attributes[names.FLIGHT_REASON] == "missed"
    assert flight.attributes[names.CONVERSATION_ID] == "s"
    assert flight.context is not None
    assert flight.context.trace_id == send_ids("t").trace_id
    assert "secret" not in flight.to_json()


def test_the_record_is_written_again_after_a_pause(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = SessionTelemetry("s")
    session(tick(1, count=2))
    later_s = time.monotonic() + flight_recorder.PAUSE_S
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    session(tick(3, count=2))
    assert len(measured.flights) == 2


def test_a_crash_is_recorded_with_its_kind_and_not_its_text(measured: Measured) -> None:
    session = SessionTelemetry("s")
    with pytest.raises(RuntimeError), session.watching():
        session(tick(0))
        raise RuntimeError("a secret")
    (flight,) = measured.flights
    assert flight.attributes is not None
    assert flight.attributes[names.FLIGHT_REASON] == "crashed"
    assert flight.attributes[names.ERROR_TYPE] == "RuntimeError"
    assert "secret" not in flight.to_json()


def test_a_session_that_ends_well_is_not_recorded(measured: Measured) -> None:
    session = SessionTelemetry("s")
    with session.watching():
        session(tick(0))
    assert measured.flights == []
