"""One trace from what the user typed to what was heard: real processes, a real server, a real collector.

Everything that a user, a model or a tool says has a word that occurs nowhere else; none of them may reach the
collector.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import pytest
from pydantic import JsonValue

from microturn.background_agent.scripted_model import CallTools, Line, Say, scripted_model
from microturn.protocols import telemetry_names as names
from microturn.runtime.bus import EmbeddedServer
from microturn.runtime.telemetry.span_record import SpanRecord, read_spans, spans_of_task, traces_folder
from tests.plugin_folder import install_plugin
from tests.runtime.telemetry.otlp_receiver import Collector

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(120)]

TALK = Path(__file__).parents[1] / "talk_program.py"
ASKED, ARGUED, RETURNED, ANSWERED = "pelican", "walrus", "ocelot", "platypus"
"""Words of the user, of the arguments, of the tool's result, of the answer."""
SECRETS = (ASKED, ARGUED, RETURNED, ANSWERED)
PLUGIN = """
import os
import pathlib
import anyio
from microturn.tools import tool

HERE = pathlib.Path(__file__).parent


@tool(timeout_s=60)
async def lookup(about: str) -> str:
    \"\"\"Look something up.

    Args:
        about: What.
    \"\"\"
    (HERE / f"began-{os.getpid()}").touch()
    while (HERE / "wait").exists():
        await anyio.sleep(0.02)
    return "It is about the ocelot."
"""


@pytest.fixture
def plugins(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool for every worker that is started, which waits while the file `wait` is there."""
    folder = home / "plugins"
    install_plugin(folder, "lookup_tools", PLUGIN, lookup="lookup_tools:lookup")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("MICROTURN_MODEL", "scripted")
    return folder


class Stage:
    """Processes that send what they record to one collector; killed at the end."""

    def __init__(self, ends: ExitStack, environment: dict[str, str], before: Sequence[str] = ()) -> None:
        """`before` stands before every command."""
        self._ends = ends
        self._environment = environment
        self._before = before

    def talk(self, *arguments: str) -> subprocess.Popen[str]:
        """A conversation in writing."""
        return self._run([sys.executable, str(TALK), "talk", "--text", *arguments])

    def worker(self, url: str) -> subprocess.Popen[str]:
        """A worker, ready to take tasks."""
        worker = self._run([sys.executable, "-m", "microturn.runtime.cli", "worker", "--redis", url])
        assert worker.stdout is not None
        assert json.loads(worker.stdout.readline())["ready"]
        return worker

    def _run(self, command: Sequence[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self._before, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        self._ends.callback(process.communicate)
        self._ends.callback(process.kill)
        return process


@contextmanager
def stage(*before: str, **environment: str) -> Iterator[Stage]:
    with ExitStack() as ends:
        yield Stage(ends, {**os.environ, "OTEL_METRIC_EXPORT_INTERVAL": "300", **environment}, before)


def say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return "".join(said)
    raise AssertionError(f"ended without saying {word!r}: {''.join(said)}")


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def script(calls: int = 1) -> list[Line]:
    """Ask for the tool so many times, as each attempt does, and answer."""
    call = CallTools((("lookup", json.dumps({"about": ARGUED})),))
    return [*[call] * calls, Say(f"It was a {ANSWERED}.")]


def child(spans: Sequence[SpanRecord], parent: SpanRecord, name: str) -> SpanRecord:
    """The only span of this name right under another one."""
    found = [span for span in spans if span.parent == parent.span_id and span.name == name]
    assert len(found) == 1, (name, [(span.name, span.parent) for span in spans])
    return found[0]


def assert_whole(spans: Sequence[SpanRecord]) -> SpanRecord:
    """One trace with one root, in which no span lacks its parent; returns the root."""
    assert len({span.trace_id for span in spans}) == 1, {(span.name, span.trace_id) for span in spans}
    known = {span.span_id for span in spans}
    (root,) = [span for span in spans if span.parent is None]
    assert [span.name for span in spans if span.parent is not None and span.parent not in known] == []
    return root


def of_delegation(receiver: Collector) -> list[SpanRecord]:
    """Spans of the delegation's trace, each id once."""
    (trace_id,) = {span.trace_id for span in receiver.named(names.SEND_SPAN)}
    return list({span.span_id: span for span in receiver.spans if span.trace_id == trace_id}.values())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    running = EmbeddedServer(tmp_path / "server")
    await anyio.to_thread.run_sync(running.start)
    yield running
    await anyio.to_thread.run_sync(running.stop)


async def test_one_delegation_is_one_tree_without_a_word_of_what_was_said(
    receiver: Collector, server: EmbeddedServer, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_model(*script()) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)

        def run() -> None:
            with stage(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as processes:
                worker = processes.worker(server.url)
                talk = processes.talk("--no-worker", "--redis", server.url)
                say(talk, f"what about the {ASKED}?")
                read_until(talk, f"It was a {ANSWERED}")
                receiver.until(lambda: receiver.named(names.WEAVE_SPAN))
                end(talk)
                end(worker)

        await anyio.to_thread.run_sync(run)
    spans = of_delegation(receiver)
    turn = assert_whole(spans)
    assert turn.name == names.TURN_SPAN
    send = child(spans, turn, names.SEND_SPAN)
    process = child(spans, send, names.PROCESS_SPAN)
    assert [link.span_id for link in process.links] == [send.span_id]
    assert process.attributes[names.DELEGATION_ATTEMPT] == 1
    assert process.attributes[names.DELEGATION_STATE] == "final"
    kinds = [event.attributes[names.EVENT_KIND] for event in process.events]
    assert kinds[0] == "tool_started"
    assert kinds[-1] == "final"
    agent = child(spans, process, "invoke_agent default")
    chats = [span for span in spans if span.name == "chat scripted"]
    assert {span.parent for span in chats} == {agent.span_id}
    assert len(chats) == 2
    tool = child(spans, agent, "execute_tool lookup")
    assert tool.attributes[names.TOOL_NAME] == "lookup"
    weaves = [span for span in spans if span.name == names.WEAVE_SPAN]
    assert {span.parent for span in weaves} == {send.span_id}
    assert weaves[-1].attributes[names.WEAVE_OUTCOME] == "heard"
    services = {span.name: span.resource["service.name"] for span in spans}
    assert services[names.SEND_SPAN] == services[names.WEAVE_SPAN] == "microturn-runtime"
    assert services[names.PROCESS_SPAN] == services["chat scripted"] == "microturn-worker"
    assert {metric.name for metric in receiver.metrics} >= {
        names.TICK_DURATION,
        names.TICK_LATENESS,
        names.DELEGATIONS,
        names.DELEGATION_ENDS,
        names.FIRST_WORD,
        names.WEAVE_WAIT_TIME,
        names.RECEIPTS,
        names.ATTEMPTS,
        names.TASKS_RUNNING,
        names.QUEUE_LAG,
        names.QUEUE_DEAD,
        names.OPERATION_DURATION,
        names.TOOL_DURATION,
        names.AGENT_DURATION,
    }
    assert has_exemplar(receiver, names.DELEGATION_DURATION, turn.trace_id)
    sent = b"".join(receiver.bodies).lower()
    assert [word for word in SECRETS if word.encode() in sent] == []
    kept = "".join(path.read_text() for path in traces_folder().iterdir()).lower()
    assert [word for word in SECRETS if word in kept] == []
    task_id = str(send.attributes[names.MESSAGE_ID])
    assert {span.span_id for span in spans_of_task(traces_folder(), task_id)} == {
        span.span_id for span in spans
    }


def has_exemplar(receiver: Collector, name: str, trace_id: str) -> bool:
    """Whether a histogram leads to a trace."""
    return any(
        exemplar.trace_id.hex() == trace_id
        for metric in receiver.metrics
        if metric.name == name
        for point in metric.histogram.data_points
        for exemplar in point.exemplars
    )


async def test_a_worker_that_is_killed_leaves_no_gap_and_its_successor_points_at_it(
    receiver: Collector, server: EmbeddedServer, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugins / "wait").touch()
    async with scripted_model(*script(2)) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)

        def run() -> None:
            with stage(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as processes:
                first, talk = (
                    processes.worker(server.url),
                    processes.talk("--no-worker", "--redis", server.url),
                )
                second = processes.worker(server.url)
                say(talk, f"what about the {ASKED}?")
                receiver.until(lambda: list(plugins.glob("began-*")))
                receiver.until(lambda: receiver.named("chat scripted"))
                (began,) = plugins.glob("began-*")
                os.kill(int(began.name.removeprefix("began-")), signal.SIGKILL)
                (plugins / "wait").unlink()
                read_until(talk, f"It was a {ANSWERED}")
                end(talk)
                for worker in (first, second):
                    end(worker)

        await anyio.to_thread.run_sync(run)
    spans = of_delegation(receiver)
    first, second = sorted(
        (span for span in spans if span.name == names.PROCESS_SPAN),
        key=lambda span: int(str(span.attributes[names.DELEGATION_ATTEMPT])),
    )
    assert first.attributes[names.DELEGATION_STATE] == names.DELEGATION_LOST
    assert first.status == "error"
    assert second.attributes[names.DELEGATION_STATE] == "final"
    assert first.span_id in [link.span_id for link in second.links]
    turn = assert_whole(spans)
    assert turn.name == names.TURN_SPAN
    before = child(spans, first, "invoke_agent default")
    assert "chat scripted" in {span.name for span in spans if span.parent == before.span_id}
    assert [word for word in SECRETS if word.encode() in b"".join(receiver.bodies).lower()] == []


async def test_a_session_that_goes_on_elsewhere_and_a_server_that_restarts_stay_in_one_trace(
    receiver: Collector, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugins / "wait").touch()
    server = EmbeddedServer(tmp_path / "server")
    await anyio.to_thread.run_sync(server.start)
    async with scripted_model(*script()) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)

        def run() -> str:
            with stage(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as processes:
                worker = processes.worker(server.url)
                arguments = ("--no-worker", "--redis", server.url, "--session", "kitchen")
                talk = processes.talk(*arguments)
                say(talk, f"what about the {ASKED}?")
                receiver.until(lambda: list(plugins.glob("began-*")))
                receiver.until(lambda: receiver.named(names.SEND_SPAN))
                talk.kill()
                talk.wait()
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)  # it is started again
                elsewhere = processes.talk(*arguments)
                read_until(elsewhere, "microturn")
                (plugins / "wait").unlink()
                read_until(elsewhere, f"It was a {ANSWERED}")
                receiver.until(lambda: receiver.named(names.WEAVE_SPAN))
                end(elsewhere)
                end(worker)
                return str(elsewhere.pid)

        pid = await anyio.to_thread.run_sync(run)
    await anyio.to_thread.run_sync(server.stop)
    spans = of_delegation(receiver)
    assert_whole(spans)
    weaves = [span for span in spans if span.name == names.WEAVE_SPAN]
    assert weaves[-1].attributes[names.WEAVE_OUTCOME] == "heard"
    assert str(weaves[-1].resource["process.pid"]) == pid
    assert {str(span.resource["process.pid"]) for span in spans if span.name == names.SEND_SPAN} != {pid}


@pytest.mark.usefixtures("namespaces")
async def test_what_was_said_is_recorded_where_it_is_wanted_and_shown_by_the_viewer(
    plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_model(*script()) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)

        def run() -> tuple[str, list[dict[str, JsonValue]]]:
            with stage(MICROTURN_TRACE_CONTENT="1") as processes:
                talk = processes.talk("--trace")
                address = read_until(talk, "traces are shown at").split()[-1]
                say(talk, f"what about the {ASKED}?")
                read_until(talk, f"It was a {ANSWERED}")
                shown = until_shown(address, "lookup")
                end(talk)
                return address, shown

        address, shown = await anyio.to_thread.run_sync(run)
    assert ARGUED in json.dumps(shown)
    (send,) = [span for span in read_spans(traces_folder()) if span.name == names.SEND_SPAN]
    assert {"process", "chat", "execute_tool"} <= {operation(span) for span in shown}
    assert {span["session_id"] for span in shown} == {send.attributes[names.CONVERSATION_ID]}
    (tool,) = [span for span in read_spans(traces_folder()) if span.name == "execute_tool lookup"]
    assert ARGUED in str(tool.attributes[names.TOOL_ARGUMENTS])
    assert RETURNED in str(tool.attributes[names.TOOL_RESULT])
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


async def test_a_conversation_goes_on_where_its_traces_cannot_be_shown(
    plugins: Path, monkeypatch: pytest.MonkeyPatch, without_namespaces: tuple[str, ...]
) -> None:
    async with scripted_model(*script()) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)

        def run() -> None:
            with stage(*without_namespaces) as processes:
                talk = processes.talk("--trace")
                read_until(talk, "look at them with `microturn delegation show`")
                say(talk, f"what about the {ASKED}?")
                read_until(talk, f"It was a {ANSWERED}")
                end(talk)

        await anyio.to_thread.run_sync(run)
    (send,) = [span for span in read_spans(traces_folder()) if span.name == names.SEND_SPAN]
    task_id = str(send.attributes[names.MESSAGE_ID])
    command = [sys.executable, "-m", "microturn.runtime.cli", "delegation", "show", task_id]
    shown = await anyio.run_process(command)
    assert "execute_tool lookup" in shown.stdout.decode()


def operation(span: dict[str, JsonValue]) -> JsonValue:
    """What a span in the viewer does."""
    metadata = span.get("metadata")
    assert isinstance(metadata, dict)
    return metadata.get(names.OPERATION_NAME) or metadata.get(names.MESSAGING_OPERATION)


def until_shown(address: str, tool: str) -> list[dict[str, JsonValue]]:
    """Ask the viewer until it has a call of this tool; returns all that it has of the conversation."""
    for _ in range(200):
        for session in httpx.get(f"{address}/api/sessions").json():
            shown: list[dict[str, JsonValue]] = httpx.get(
                f"{address}/api/sessions/{session['id']}/spans"
            ).json()
            if any(span.get("tool_name") == tool for span in shown):
                return shown
        time.sleep(0.05)
    raise AssertionError(f"the viewer has no call of {tool}")
