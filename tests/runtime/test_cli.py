"""The command line, read as a newcomer: every mistake is one clear sentence, and nothing is lost by it."""

from __future__ import annotations

import socketserver
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile

from microturn import __version__
from microturn.protocols import Samples
from microturn.runtime.audio_device import DeviceNames
from microturn.runtime.bus import BusSettings, EmbeddedServer
from microturn.runtime.bus.connection import open_clients
from microturn.runtime.bus.raw import command
from microturn.runtime.conversation import Conversation, Setting
from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.hub import open_hub
from microturn.runtime.testing import ScriptedModel
from microturn.weights import WEIGHTS
from tests.runtime.conftest import Done, Run

pytestmark = pytest.mark.redis

QUESTION = Path(__file__).parents[2] / "examples/conversation/question.flac"


@pytest.fixture
def play(
    run: Run, redis_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Path], Done]:
    """Plays a recording to a scripted model as fast as it goes; nothing is handed over."""
    monkeypatch.setattr("microturn.runtime.interaction_models.load_speech", ScriptedModel)

    def call(recording: Path) -> Done:
        return run(
            *("talk", "--input", recording, "--output", tmp_path / "both.wav", "--fast", "--no-worker"),
            *("--redis", redis_server.url),
        )

    return call


def write(path: Path, audio: Samples, rate_hz: int = 16_000) -> Path:
    soundfile.write(path, audio, rate_hz)
    return path


def noise(seconds: float, channels: int = 1, rate_hz: int = 16_000, level: float = 0.1) -> Samples:
    shape = (int(seconds * rate_hz), channels)
    return np.random.default_rng(0).uniform(-level, level, shape).astype(np.float32)


@contextmanager
def served(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A server on a thread of its own that answers what it gets so; yields its address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while request := self.request.recv(4096):
                    self.request.sendall(answer(request))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def assert_clear(done: Done, *words: str) -> None:
    """One sentence on standard error that says these words, exit status 1, no traceback."""
    assert done.code == 1, done
    assert "Traceback" not in done.err
    assert done.err.count("\n") == 1
    assert done.err.startswith("microturn: ")
    for word in words:
        assert word in done.err


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").out == f"microturn {__version__}\n"


def test_help_names_every_command(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for name in ("talk", "worker", "doctor", "weights"):
        assert name in done.out


def test_help_on_talking_names_every_way_to_talk(run: Run) -> None:
    done = run("talk", "--help")
    for option in ("--input", "--output", "--timeline", "--fast", "--text", "--no-worker", "--redis"):
        assert option in done.out


def test_every_weight_is_listed_with_its_licence_and_place(run: Run) -> None:
    lines = run("weights", "list").out.splitlines()
    assert len(lines) == len(WEIGHTS)
    for line, (name, file) in zip(lines, WEIGHTS.items(), strict=True):
        assert line.startswith(name)
        assert file.licence in line


def test_weights_that_are_not_here_are_listed_as_such(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "empty"))
    done = run("weights", "list")
    assert done.code == 0
    assert next(line for line in done.out.splitlines() if line.startswith("silero-vad")).endswith("not here")


def test_an_unknown_weight_is_answered_with_the_known_ones(run: Run) -> None:
    assert_clear(run("weights", "fetch", "nonsense"), "'nonsense'", "silero-vad")


def test_the_doctor_says_what_is_here_and_what_mends_the_rest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("doctor")
    assert "built-in Redis server" in done.out
    assert "Traceback" not in done.out + done.err


def test_the_doctor_tells_of_missing_weights_and_fails(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "empty"))
    done = run("doctor")
    assert done.code == 1
    assert "microturn weights fetch" in done.out


def test_a_recording_that_is_not_there(run: Run) -> None:
    assert_clear(run("talk", "--input", "nowhere.flac"), "'nowhere.flac'", "no such file", "check the path")


def test_a_recording_that_is_no_sound(run: Run, tmp_path: Path) -> None:
    text = tmp_path / "letter.wav"
    text.write_text("Dear Sir or Madam, this is no sound." * 10)
    assert_clear(
        run("talk", "--input", text), "letter.wav", "expected wav, flac, ogg", "ffmpeg -i letter.wav"
    )


def test_a_recording_that_is_empty(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.flac"
    empty.touch()
    assert_clear(run("talk", "--input", empty), "empty.flac", "is empty", "record it again")


def test_a_recording_without_a_sample(run: Run, tmp_path: Path) -> None:
    header = write(tmp_path / "header.wav", noise(0))
    assert_clear(run("talk", "--input", header), "0 samples", "record it again")


@pytest.mark.parametrize("option", ["--output", "--timeline"])
def test_a_result_that_cannot_be_written_is_refused_before_the_conversation(
    run: Run, option: str, tmp_path: Path
) -> None:
    place = tmp_path / "nowhere" / "file.wav"
    assert_clear(run("talk", "--input", QUESTION, option, place), "there is no folder", "create it")


def test_an_output_of_an_unknown_kind(run: Run, tmp_path: Path) -> None:
    done = run("talk", "--input", QUESTION, "--output", tmp_path / "out.mp3")
    assert_clear(done, "'.mp3'", "expected one of .wav, .flac, .ogg")


def test_no_microphone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microturn.runtime.conversation.device_names", lambda: DeviceNames((), ()))
    assert_clear(run("talk"), "no microphone and no loudspeaker", "connect a headset", "--input", "--text")


def test_weights_that_are_missing(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICROTURN_CACHE", str(tmp_path / "empty"))
    assert_clear(run("talk", "--input", QUESTION), "silero-vad", "`microturn weights fetch speech`")


def test_weights_of_the_wrong_version(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "vad.onnx"
    other.write_bytes(b"another version")
    monkeypatch.setenv("MICROTURN_WEIGHTS_SILERO_VAD", str(other))
    assert_clear(run("talk", "--input", QUESTION), "silero-vad", str(other))


def test_a_model_url_without_a_model_name(run: Run) -> None:
    done = run("talk", "--input", QUESTION, "--model-url", "http://127.0.0.1:9/v1")
    assert_clear(done, "MICROTURN_MODEL is not: set it")


@pytest.mark.parametrize("arguments", [("--text", "--input", QUESTION), ("--fast",)])
def test_options_that_contradict_each_other_are_a_usage_error(run: Run, arguments: tuple[object]) -> None:
    done = run("talk", *arguments)
    assert done.code == 2
    assert "--input" in done.err


def test_a_worker_without_a_server_is_a_usage_error(run: Run) -> None:
    done = run("worker")
    assert done.code == 2
    assert "--redis URL" in done.err


@pytest.mark.parametrize("words", [("talk", "--input", QUESTION, "--no-worker"), ("worker",)])
def test_a_server_that_does_not_answer(
    run: Run, words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MICROTURN_MODEL", "none")
    done = run(*words, "--redis", "redis://user:hunter2@127.0.0.1:1/0")
    assert_clear(done, "no Redis server answers at redis://127.0.0.1:1/0", "leave the URL out")
    assert "hunter2" not in done.err


def test_a_server_of_another_kind(run: Run) -> None:
    with served(lambda _: b"<html>400 Bad Request</html>\r\n") as url:
        done = run("talk", "--input", QUESTION, "--no-worker", "--redis", url)
    assert_clear(done, "does not speak the Redis protocol", "correct the URL")


def test_a_state_folder_that_cannot_be_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = run("talk", "--input", QUESTION, "--no-worker")
    assert_clear(done, "cannot keep the built-in server's data", "set XDG_STATE_HOME")


def test_an_address_that_is_none(run: Run) -> None:
    done = run("talk", "--input", QUESTION, "--no-worker", "--redis", "localhost:6379")
    assert_clear(done, "'localhost:6379'", "expected redis://HOST:PORT")


def test_a_server_that_would_delete_waiting_tasks(run: Run, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "evicting") as server:
        anyio.run(_configure, server.url, "maxmemory-policy", "allkeys-lru")
        done = run("talk", "--input", QUESTION, "--no-worker", "--redis", server.url)
    assert_clear(done, "'allkeys-lru'", "set it to 'noeviction'")


async def _configure(url: str, name: str, value: str) -> None:
    async with open_clients(BusSettings(url)) as clients:
        await command(clients.commands, "CONFIG", "SET", name, value)


def _answer_of_an_old_server(request: bytes) -> bytes:
    """Speak the protocol as far as a look at the version goes."""
    info = b"# Server\r\nredis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\n"
    commands = request.upper().split(b"\r\n")
    replies = [b"+OK\r\n" for each in commands if each in (b"CLIENT", b"SELECT", b"PING")]
    if b"INFO" in commands:
        replies.append(b"$%d\r\n%s\r\n" % (len(info), info))
    return b"".join(replies)


def test_a_server_that_is_too_old(run: Run) -> None:
    with served(_answer_of_an_old_server) as url:
        done = run("talk", "--input", QUESTION, "--no-worker", "--redis", url)
    assert_clear(done, "it is Redis 6.2.14", "expected 7.0 or later")


def test_a_silent_recording_is_played_and_warned_of(play: Callable[[Path], Done], tmp_path: Path) -> None:
    done = play(write(tmp_path / "silent.wav", noise(1, level=0)))
    assert done.code == 0
    assert "The recording is silent; check that the right microphone was recorded." in done.out
    assert soundfile.info(tmp_path / "both.wav").duration >= 1


def test_a_clipped_recording_is_played_and_warned_of(play: Callable[[Path], Done], tmp_path: Path) -> None:
    done = play(write(tmp_path / "clipped.wav", np.sign(noise(1))))
    assert done.code == 0
    assert "The recording is clipped" in " ".join(done.out.split())


def test_a_stereo_mp3_at_44100_hz_is_taken(play: Callable[[Path], Done], tmp_path: Path) -> None:
    done = play(write(tmp_path / "music.mp3", noise(2, channels=2, rate_hz=44_100), 44_100))
    assert done.code == 0
    both, rate_hz = soundfile.read(tmp_path / "both.wav")
    assert rate_hz == 24_000
    assert both.shape[1] == 2
    heard = both[: 2 * rate_hz, 0]
    assert 0.01 < np.sqrt(np.mean(np.square(heard))) < 0.1
    assert not both[:, 1].any()


def test_a_recording_of_a_day_takes_no_more_memory_than_one_of_a_minute(
    redis_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The file is sparse: it has a header and no blocks on the disk."""
    day = tmp_path / "day.wav"
    data_bytes = 24 * 3600 * 16_000 * 2
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", 16, 1, 1, 16_000,
                         32_000, 2, 16, b"data", data_bytes)  # fmt: skip
    with day.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + data_bytes)
    sizes: dict[int, int] = {}

    async def hold() -> None:
        over = anyio.Event()

        def measure(event: SessionEvent) -> None:
            if isinstance(event, TickDone) and event.index in (300, 1200):
                sizes[event.index] = tracemalloc.get_traced_memory()[0]
                if event.index == 1200:
                    over.set()

        async with open_hub(BusSettings(redis_server.url)) as hub, anyio.create_task_group() as tasks:
            conversation = Conversation(Setting(day, tmp_path / "both.wav", fast=True), [measure])
            tasks.start_soon(conversation.hold, ScriptedModel(), hub)
            await over.wait()
            tasks.cancel_scope.cancel()
        assert "The recording is very long: 24.0 hours." in conversation.warnings

    tracemalloc.start()
    try:
        anyio.run(hold)
    finally:
        tracemalloc.stop()
    # ScriptedModel keeps its inputs for assertions: 12.8 kB of sound for each micro-turn.
    kept_bytes = 900 * 13_600
    assert sizes[1200] - sizes[300] - kept_bytes < 2_000_000


def test_a_mistake_in_a_real_process_ends_with_status_1_and_one_line(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "microturn.runtime.cli", "talk", "--input", "nowhere.flac"],
        capture_output=True,
        check=False,
        text=True,
        timeout=15,
    )
    assert_clear(Done(done.returncode, done.stdout, done.stderr), "'nowhere.flac'")
    assert done.stdout == ""
