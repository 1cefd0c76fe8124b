"""Opening telemetry in a process of its own: what is wanted, a collector that is away, samplers, Prometheus, logs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from microturn.protocols import UserError
from microturn.protocols import telemetry_names as names
from microturn.runtime.telemetry.settings import TelemetrySettings
from microturn.runtime.telemetry.span_record import read_spans
from tests.runtime.telemetry.otlp_receiver import Collector

pytestmark = pytest.mark.unit

HEAD = """
import logging, os, sys, time
from opentelemetry import trace
from microturn.runtime.telemetry.settings import TelemetrySettings
from microturn.runtime.telemetry.setup import open_telemetry
from microturn.runtime.tracing import trace_hand_over
settings = TelemetrySettings.from_environment(os.environ, "microturn-test")
tracer = trace.get_tracer("microturn.runtime")
"""


def run(program: str, home: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program with telemetry from its environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", HEAD + program],
        env={**inherited, "XDG_STATE_HOME": str(home), **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize(
    ("environment", "sent", "has_traces", "has_metrics"),
    [
        ({}, set(), False, False),
        ({"MICROTURN_TRACE": "1"}, set(), True, False),
        ({"MICROTURN_METRICS_PORT": "0"}, set(), False, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, {"traces", "metrics", "logs"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x/v1/traces"}, {"traces"}, True, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"},
            {"traces", "logs"},
            True,
            False,
        ),
        ({"OTEL_TRACES_EXPORTER": "console"}, set(), True, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, set(), False, False),
    ],
)
def test_the_standard_variables_say_what_is_wanted(
    environment: dict[str, str], sent: set[str], *, has_traces: bool, has_metrics: bool
) -> None:
    settings = TelemetrySettings.from_environment(environment, "microturn")
    assert set(settings.sent) == sent
    assert settings.has_traces is has_traces
    assert settings.has_metrics is has_metrics
    assert settings.is_wanted is (has_traces or has_metrics or bool(sent))


@pytest.mark.parametrize("port", ["http", "-1", "70000"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(UserError, match="MICROTURN_METRICS_PORT"):
        TelemetrySettings.from_environment({"MICROTURN_METRICS_PORT": port}, "microturn")


def test_without_anything_wanted_the_sdk_is_not_even_loaded(tmp_path: Path) -> None:
    program = """
with open_telemetry(settings):
    tracer.start_span("nothing").end()
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    done = run(program, tmp_path, {})
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    program = """
sys.modules["opentelemetry.sdk.trace"] = None
try:
    with open_telemetry(settings):
        pass
except Exception as error:
    print(error)
"""
    done = run(program, tmp_path, {"MICROTURN_TRACE": "1"})
    assert "pip install 'microturn[telemetry]'" in done.stdout


def test_a_collector_that_is_away_or_slow_holds_nobody_up_and_is_said_once(
    tmp_path: Path, receiver: Collector
) -> None:
    receiver.status, receiver.delay_s = 503, 0.0
    program = """
with open_telemetry(settings):
    began = time.monotonic()
    for number in range(300):
        tracer.start_span("span").end()
    print(time.monotonic() - began < 0.5)
    time.sleep(1.2)
    for number in range(300):
        tracer.start_span("span").end()
    began = time.monotonic()
print(time.monotonic() - began < 3.5)
"""
    done = run(program, tmp_path, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/v1/traces"})
    assert done.stdout == "True\nTrue\n"
    assert done.stderr.count("The collector does not take traces") == 1
    assert done.stderr.count("\n") == 1
    assert len(read_spans(tmp_path / "microturn" / "traces")) == 600


def test_a_collector_that_never_answers_costs_two_seconds_at_the_end(
    tmp_path: Path, receiver: Collector
) -> None:
    receiver.delay_s = 30.0
    program = """
with open_telemetry(settings):
    tracer.start_span("span").end()
    began = time.monotonic()
print(time.monotonic() - began < 3.5)
"""
    began_s = time.monotonic()
    done = run(program, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    assert done.stdout == "True\n", done.stderr
    assert time.monotonic() - began_s < 15


@pytest.mark.parametrize(
    ("sampler", "recorded"),
    [
        ("traceidratio", {names.TURN_SPAN, names.SEND_SPAN, names.FLIGHT_SPAN}),
        ("parentbased_traceidratio", {names.TURN_SPAN, names.SEND_SPAN, names.FLIGHT_SPAN}),
        ("always_on", {names.TURN_SPAN, names.SEND_SPAN, names.FLIGHT_SPAN, "other"}),
        ("always_off", set()),
    ],
)
def test_delegations_and_faults_are_always_recorded_unless_all_is_off(
    tmp_path: Path, sampler: str, recorded: set[str]
) -> None:
    program = f"""
with open_telemetry(settings):
    tracer.start_span("other").end()
    tracer.start_span({names.FLIGHT_SPAN!r}).end()
    print(trace_hand_over("session", "task", "default", 100))
"""
    environment = {
        "MICROTURN_TRACE": "1",
        "OTEL_TRACES_SAMPLER": sampler,
        "OTEL_TRACES_SAMPLER_ARG": "0",
    }
    done = run(program, tmp_path, environment)
    assert done.stderr == ""
    assert {span.name for span in read_spans(tmp_path / "microturn" / "traces")} == recorded


def test_prometheus_finds_the_metrics_on_the_loopback_interface(tmp_path: Path) -> None:
    program = """
import io, re, urllib.request
from microturn.protocols import FloorState
from microturn.runtime.events import TickDone
from microturn.runtime.telemetry.session_telemetry import SessionTelemetry
log = io.StringIO()
logging.basicConfig(level=logging.INFO, stream=log)
with open_telemetry(settings):
    session = SessionTelemetry("s")
    for index in (3, 6):
        session(TickDone(index, 3, 150.0, 1.0, 20.0, FloorState(), 0.0))
    address = re.search("http://127.0.0.1:[0-9]+/metrics", log.getvalue()).group()
    print(urllib.request.urlopen(address).read().decode())
"""
    done = run(program, tmp_path, {"MICROTURN_METRICS_PORT": "0"})
    assert 'microturn_tick_missed_total{reason="model"} 2.0' in done.stdout, done.stderr
    assert "microturn_tick_duration_seconds_bucket" in done.stdout


def test_a_port_that_is_taken_is_an_error_that_says_so(tmp_path: Path, receiver: Collector) -> None:
    port = receiver.url.rpartition(":")[2]
    program = """
try:
    with open_telemetry(settings):
        pass
except Exception as error:
    print(type(error).__name__, error)
"""
    done = run(program, tmp_path, {"MICROTURN_METRICS_PORT": port})
    assert done.stdout.startswith(f"UserError cannot serve metrics on port {port}")


def test_log_records_carry_their_trace_and_never_the_text_of_an_error(
    tmp_path: Path, receiver: Collector
) -> None:
    program = """
with open_telemetry(settings):
    with tracer.start_as_current_span("work"):
        try:
            raise ValueError("a pelican")
        except ValueError:
            logging.getLogger("microturn.test").exception("task %s failed", "t1")
    logging.getLogger("httpx").warning("GET /?q=pelican")
"""
    done = run(program, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    assert done.returncode == 0, done.stderr
    (record,) = receiver.logs
    (span,) = receiver.spans
    assert record.body.string_value == "task t1 failed"
    assert record.trace_id.hex() == span.trace_id
    assert record.span_id.hex() == span.span_id
    assert {pair.key: pair.value.string_value for pair in record.attributes}[
        names.EXCEPTION_TYPE
    ] == "ValueError"
    assert b"pelican" not in b"".join(receiver.bodies)


def test_spans_on_standard_error_have_a_line_each(tmp_path: Path) -> None:
    program = """
with open_telemetry(settings):
    trace_hand_over("session", "task", "default", 100)
"""
    done = run(program, tmp_path, {"OTEL_TRACES_EXPORTER": "console"})
    assert sorted(line.rpartition("ms  ")[2] for line in done.stderr.splitlines()) == [
        names.TURN_SPAN,
        names.SEND_SPAN,
    ]


def test_ids_of_a_delegation_follow_from_its_task_and_others_do_not(tmp_path: Path) -> None:
    program = """
from microturn.protocols.trace_ids import send_ids
with open_telemetry(settings):
    headers = trace_hand_over("session", "task", "default", 100)
    print(headers["traceparent"] == send_ids("task").traceparent)
    one, two = tracer.start_span("one"), tracer.start_span("two")
    print(len({each.get_span_context().trace_id for each in (one, two)}))
"""
    done = run(program, tmp_path, {"MICROTURN_TRACE": "1"})
    assert done.stdout == "True\n2\n"


@pytest.mark.parametrize("is_wanted", [False, True])
def test_what_libraries_record_of_what_was_said_is_sent_only_where_it_is_wanted(
    tmp_path: Path, receiver: Collector, *, is_wanted: bool
) -> None:
    program = """
library = trace.get_tracer("some-library")
with open_telemetry(settings):
    try:
        with library.start_as_current_span("MCP send tools/call", attributes={"url.full": "http://x/?q=pelican"}) as span:
            span.set_attribute("mcp.method.name", "tools/call")
            span.set_attribute("gen_ai.input.messages", "a pelican")
            span.set_attribute("size", 7)
            raise ValueError("no pelican here")
    except ValueError:
        pass
"""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "MICROTURN_TRACE_CONTENT": "1" if is_wanted else "",
    }
    done = run(program, tmp_path, environment)
    assert done.stderr == ""
    (span,) = receiver.spans
    assert span.attributes["mcp.method.name"] == "tools/call"
    assert span.attributes["size"] == 7
    assert span.status == "error"
    assert span.events[0].attributes["exception.type"] == "ValueError"
    assert (b"pelican" in b"".join(receiver.bodies)) is is_wanted
    assert ("pelican" in str(read_spans(tmp_path / "microturn" / "traces"))) is is_wanted
