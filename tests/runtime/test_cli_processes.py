"""Real processes that are stopped, killed and started again: what is promised survives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
import psutil
import pytest
import soundfile

from microturn.background_agent.scripted_model import Say, scripted_model
from microturn.protocols import Delegate
from microturn.runtime.bus import BusSettings, EmbeddedServer
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.delegations import NO_WORKER_TEXT, UNREACHABLE_TEXT
from microturn.runtime.events import BackgroundHealth, Delegated, DelegationMoved, SpeechBegan
from microturn.runtime.hub import open_hub
from microturn.runtime.testing import Answer, Listener, ScriptedModel, ToneVoice
from microturn.runtime.worker_service import worker_process
from tests.plugin_folder import install_plugin

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

PROGRAM = Path(__file__).with_name("talk_program.py")
PLUGIN = """
import pathlib
import anyio
from microturn.tools import tool

HERE = pathlib.Path(__file__).parent


@tool(phrases=["dawdle for {seconds} seconds"], timeout_s=60)
async def dawdle(seconds: float) -> str:
    \"\"\"Take some time.

    Args:
        seconds: how much.
    \"\"\"
    (HERE / "dawdling").touch()
    await anyio.sleep(seconds)
    return f"I have dawdled for {seconds:g} seconds."
"""


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark; say something to all else."""
    if text.endswith("?"):
        return Answer("One moment.", (Delegate(text, 0, 200),))
    return Answer("I see.")


@pytest.fixture
def plugins(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python takes for an installed package with a tool, for every process that is started."""
    folder = home / "plugins"
    install_plugin(folder, "dawdling", PLUGIN, dawdling="dawdling:dawdle")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MICROTURN_MODEL", "none")
    return folder


class Worker:
    """A `microturn worker` in a process of its own, ready to take tasks."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "microturn.runtime.cli", "worker", "--redis", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["ready"]

    def end(self) -> None:
        """Kill it, if it still runs, and collect what is left."""
        self.process.kill()
        self.process.communicate()


StartWorker = Callable[[str], Worker]


@pytest.fixture
def start_worker(plugins: Path) -> Iterator[StartWorker]:
    with ExitStack() as ends:

        def start(url: str) -> Worker:
            worker = Worker(url)
            ends.callback(worker.end)
            return worker

        yield start


class Live:
    """A conversation on the wall clock with somebody who types."""

    def __init__(self, keyboard: int) -> None:
        self.listener = Listener()
        self._keyboard = keyboard

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._keyboard, f"{line}\n".encode())

    async def until(self, condition: Callable[[Listener], object], within_s: float = 20.0) -> None:
        """Wait until something was heard or seen."""
        with anyio.fail_after(within_s):
            while not condition(self.listener):
                await anyio.sleep(0.02)


@asynccontextmanager
async def live(url: str) -> AsyncIterator[Live]:
    """Hold a conversation until the end of the block and of all that is awaited."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as lines, os.fdopen(writing, "wb", buffering=0) as keyboard:
        talk = Live(keyboard.fileno())
        conversation = Conversation(Setting(typed=lines), [talk.listener])
        async with open_hub(BusSettings(url)) as hub, anyio.create_task_group() as tasks:
            tasks.start_soon(conversation.hold, ScriptedModel(answer=ask, voice=ToneVoice(word_ms=80)), hub)
            yield talk
            keyboard.close()


@contextmanager
def program(*arguments: object, lines: object = ()) -> Iterator[subprocess.Popen[str]]:
    """Runs the command line with a scripted model; killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SCRIPT_LINES": json.dumps(lines)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """Read what a process says up to the first line with this word."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return "".join(said)
    raise AssertionError(f"ended without saying {word!r}: {''.join(said)}")


def gone(processes: list[psutil.Process], within_s: float = 10.0) -> bool:
    """Whether none of them runs any more."""
    _, alive = psutil.wait_procs(processes, timeout=within_s)
    return all(each.status() == psutil.STATUS_ZOMBIE for each in alive)


def test_a_conversation_that_is_stopped_leaves_a_valid_recording_and_a_timeline(
    plugins: Path, tmp_path: Path
) -> None:
    recording = tmp_path / "you.wav"
    soundfile.write(recording, np.full(60 * 16_000, 0.1, np.float32), 16_000)
    both, picture = tmp_path / "both.flac", tmp_path / "timeline.png"
    arguments = ("talk", "--input", recording, "--output", both, "--timeline", picture, "--no-worker")
    with program(*arguments, lines=[[0, 400, "hello"]]) as process:
        read_until(process, "assistant: I see.")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err == ""
    assert "stopped" in out
    assert str(both) in out
    sound, rate_hz = soundfile.read(both)
    assert 0.8 < len(sound) / rate_hz < 30
    assert abs(sound[rate_hz // 4 : rate_hz // 2, 0] - 0.1).max() < 0.01
    assert sound[:, 1].max() > 0.2
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_typing_into_a_pipe_is_a_whole_conversation_with_a_worker_of_its_own(plugins: Path) -> None:
    with program("talk", "--text") as process:
        assert process.stdin is not None
        process.stdin.write("What is 48 times 17?\n")
        process.stdin.flush()
        read_until(process, "816")
        process.send_signal(signal.SIGTERM)  # which ends it as Ctrl-C does
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "stopped" in out
    assert "delegations" in out
    assert err == ""


def test_nothing_is_left_running_after_a_conversation_was_killed(plugins: Path) -> None:
    with program("talk", "--text") as process:
        assert process.stdin is not None
        process.stdin.write("hello\n")
        process.stdin.flush()
        read_until(process, "assistant: I see.")
        children = psutil.Process(process.pid).children(recursive=True)
        names = " ".join(" ".join(child.cmdline()) for child in children)
        assert "valkey-server" in names
        assert "worker" in names
        process.kill()
        process.wait()
        assert gone(children)


@pytest.mark.anyio
async def test_a_task_without_a_worker_is_told_in_two_seconds_and_answered_when_one_comes(
    redis_server: EmbeddedServer, start_worker: StartWorker
) -> None:
    async with live(redis_server.url) as talk:
        await talk.until(lambda heard: heard.seen(BackgroundHealth))
        talk.type("dawdle for 0.1 seconds?")
        await talk.until(lambda heard: NO_WORKER_TEXT in heard.said)
        await anyio.to_thread.run_sync(start_worker, redis_server.url)
        await talk.until(lambda heard: "I have dawdled for 0.1 seconds." in heard.heard)
    listener = talk.listener
    told = next(event for event in listener.seen(SpeechBegan) if event.text == NO_WORKER_TEXT)
    assert told.at_ms - listener.seen(Delegated)[0].at_ms <= 2000
    assert listener.said.count("I have dawdled for 0.1 seconds.") == 1


@pytest.mark.anyio
async def test_a_worker_that_is_asked_to_end_finishes_what_it_has_begun(
    redis_server: EmbeddedServer, start_worker: StartWorker, plugins: Path
) -> None:
    worker = await anyio.to_thread.run_sync(start_worker, redis_server.url)
    async with live(redis_server.url) as talk:
        talk.type("dawdle for 1 seconds?")
        await talk.until(lambda _: (plugins / "dawdling").exists())
        worker.process.send_signal(signal.SIGTERM)
        await talk.until(lambda heard: "I have dawdled for 1 seconds." in heard.heard)
    assert await anyio.to_thread.run_sync(worker.process.wait) == 0


@pytest.mark.anyio
async def test_a_task_whose_worker_was_killed_is_answered_once_by_the_one_in_its_place(
    redis_server: EmbeddedServer, plugins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_model(Say("Nobody asks me.")) as model:
        monkeypatch.setenv("MICROTURN_MODEL_URL", model.url)
        async with worker_process(BusSettings(redis_server.url)) as pid, live(redis_server.url) as talk:
            talk.type("dawdle for 3 seconds?")
            await talk.until(lambda _: (plugins / "dawdling").exists())
            os.kill(pid, signal.SIGKILL)
            await talk.until(lambda heard: "I have dawdled for 3 seconds." in heard.heard)
            await anyio.sleep(0.5)  # a second answer would come now
        assert talk.listener.said.count("I have dawdled for 3 seconds.") == 1
        kinds = [event.event.kind for event in talk.listener.seen(DelegationMoved)]
        assert kinds.count("final") == 1


@pytest.mark.anyio
async def test_a_server_that_is_killed_costs_no_beat_and_no_answer(
    tmp_path: Path, start_worker: StartWorker
) -> None:
    first = EmbeddedServer(tmp_path / "server", restart=False)
    with ExitStack() as ends:
        await anyio.to_thread.run_sync(first.start)
        ends.callback(first.stop)
        await anyio.to_thread.run_sync(start_worker, first.url)
        async with live(first.url) as talk:
            assert first.pid is not None
            os.kill(first.pid, signal.SIGKILL)
            talk.type("dawdle for 0.1 seconds?")
            await talk.until(lambda heard: UNREACHABLE_TEXT in heard.said)
            second = EmbeddedServer(tmp_path / "server")
            await anyio.to_thread.run_sync(second.start)
            ends.callback(second.stop)
            await talk.until(lambda heard: "I have dawdled for 0.1 seconds." in heard.heard)
        listener = talk.listener
        assert listener.said.count("I have dawdled for 0.1 seconds.") == 1
        assert {event.state for event in listener.seen(BackgroundHealth)} >= {"unreachable", "ok"}
        # Steps may come late on a busy machine; what the runtime itself does in one never waits for the server.
        assert listener.worst_runtime_ms < 100
        assert listener.missed == 0


def test_a_real_question_in_stereo_mp3_is_heard_looked_up_and_answered(plugins: Path, tmp_path: Path) -> None:
    """The real ears and voice, the built-in server, a worker process and a tool, from a recording to a recording."""
    question, rate_hz = soundfile.read(
        Path(__file__).parents[2] / "examples/conversation/question.flac", dtype="float32"
    )
    samples = round(3.6 * 44_100)
    at = np.arange(samples) * rate_hz / 44_100
    loud = np.interp(at, np.arange(len(question)), question).astype(np.float32)
    recording, both = tmp_path / "question.mp3", tmp_path / "both.wav"
    soundfile.write(recording, np.stack([loud, loud], axis=1), 44_100)
    command = [sys.executable, "-m", "microturn.runtime.cli", "talk", "--fast"]
    done = subprocess.run(
        [*command, "--input", str(recording), "--output", str(both)],
        capture_output=True,
        check=False,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert "tool_finished weather" in done.stdout
    assert "Bergen" in done.stdout
    assert "1 final" in done.stdout
    sound, _ = soundfile.read(both)
    assert np.abs(sound[:, 1]).max() > 0.05
