"""Both sides of a conversation on disk, aligned, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from microturn.protocols import Samples
from microturn.runtime._errors import AudioFileError
from microturn.runtime.recorder import QUEUE_BLOCKS, StereoRecorder
from microturn.runtime.testing import Answer, Stage, UserLine

pytestmark = pytest.mark.unit


def impulse(samples: int, at: int) -> Samples:
    sound = np.zeros(samples, np.float32)
    sound[at] = 0.9
    return sound


def read(path: Path) -> npt.NDArray[np.float32]:
    sound, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == 24_000
    assert sound.shape[1] == 2
    return np.asarray(sound, np.float32)


def record(recorder: StereoRecorder, turns: int) -> None:
    """Simultaneous impulses on both sides, 150 ms into every micro-turn but the first."""
    for turn in range(turns):
        recorder.heard(impulse(3200, 2400))
        if turn:
            recorder.played(impulse(4800, 3600))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_the_person_is_left_and_the_assistant_right_at_the_same_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with StereoRecorder(path) as recorder:
        record(recorder, 6)
    sound = read(path)
    assert len(sound) == 6 * 4800
    for turn in range(6):
        person, assistant = np.abs(sound[turn * 4800 : (turn + 1) * 4800]).T
        assert abs(int(np.argmax(person)) - 3600) <= 1
        assert turn == 0 or int(np.argmax(assistant)) == 3600
    assert np.abs(sound[:4700, 1]).max() < 0.02


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_a_recording_says_which_model_spoke(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    with StereoRecorder(path, comment="microturn scripted") as recorder:
        record(recorder, 3)
    with soundfile.SoundFile(str(path)) as file:
        assert file.comment == "microturn scripted"


@pytest.mark.anyio
async def test_a_staged_conversation_is_recorded_to_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    stage = Stage([UserLine(0, 1000, "hello")], lambda _: Answer("Good day to you."))
    with StereoRecorder(path) as recorder:
        seat = stage.host._seats["stage"]
        seat.taps = (recorder,)
        seat.player._taps = (*seat.player._taps, recorder)  # type: ignore[attr-defined]  # because Stage takes no taps
        await stage.run(4000)
    sound = read(path)
    assert len(sound) == 4000 * 24
    spoken = np.flatnonzero(sound[:, 1])
    expected = np.flatnonzero(stage.played) + 4800
    assert (spoken[0], spoken[-1]) == (expected[0], expected[-1])


def test_the_shorter_side_ends_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with StereoRecorder(path) as recorder:
        recorder.heard(np.full(3200, 0.5, np.float32))
        recorder.played(np.full(9600, 0.5, np.float32))
    sound = read(path)
    assert len(sound) == 4800 + 9600
    assert not np.any(sound[4900:, 0])
    assert np.all(sound[4800:, 1] > 0.4)


def test_an_error_in_the_conversation_leaves_a_valid_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(ZeroDivisionError), StereoRecorder(path) as recorder:
        record(recorder, 3)
        raise ZeroDivisionError
    assert len(read(path)) == 3 * 4800


def test_ctrl_c_leaves_a_valid_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    program = f"""
import os, signal, time
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
from microturn.runtime.recorder import StereoRecorder
with StereoRecorder({str(path)!r}) as recorder:
    for _ in range(5):
        recorder.heard(np.full(3200, 0.1, np.float32))
        recorder.played(np.full(4800, 0.1, np.float32))
    print("ready", flush=True)
    time.sleep(15)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    with child.stdout as output:
        assert output.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGINT)
        child.wait(10)
    assert child.returncode != 0
    assert len(read(path)) == 6 * 4800


def test_a_slow_disk_makes_silence_of_the_right_length_and_never_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    gate = threading.Event()
    with StereoRecorder(path) as recorder:
        quick = recorder._file.write

        def slow(data: npt.NDArray[np.float32]) -> None:
            gate.wait(10)
            quick(data)

        recorder._file.write = slow  # type: ignore[method-assign]  # because the disk is what is faked here
        turns = QUEUE_BLOCKS // 2 + 50
        record(recorder, turns)
        assert recorder.dropped_samples > 0
        gate.set()
        while not recorder._queue.empty():
            threading.Event().wait(0.01)
        recorder.heard(impulse(3200, 2400))
        recorder.played(impulse(4800, 3600))
    sound = read(path)
    assert len(sound) == (turns + 1) * 4800
    person, assistant = np.abs(sound[-4800:]).T
    assert abs(int(np.argmax(person)) - int(np.argmax(assistant))) <= 1


def test_on_a_virtual_clock_nothing_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with StereoRecorder(path, wait_when_full=True) as recorder:
        record(recorder, QUEUE_BLOCKS)
        assert recorder.dropped_samples == 0
    assert len(read(path)) == QUEUE_BLOCKS * 4800


def test_a_full_disk_is_told_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(AudioFileError, match="incomplete.*No space"), StereoRecorder(path) as recorder:

        def full(data: npt.NDArray[np.float32]) -> None:
            raise OSError(28, "No space left on device")

        recorder._file.write = full  # type: ignore[method-assign]  # because the disk is what is faked here
        record(recorder, 3 * QUEUE_BLOCKS)
    assert not any(thread.name == "recorder" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.mp3", "expected one of"),
        ("a", "expected one of"),
        ("missing/a.wav", "no folder"),
        (".", "expected"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_starts(
    tmp_path: Path, name: str, what: str
) -> None:
    with pytest.raises(AudioFileError, match=what), StereoRecorder(tmp_path / name):
        pytest.fail("it was entered")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(AudioFileError, match="cannot write"), StereoRecorder(tmp_path / "a.wav"):
        pytest.fail("it was entered")
