"""Recordings of every kind, good and bad, as they are found on disks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy import signal

from microturn.protocols import Samples
from microturn.runtime import audio_file
from microturn.runtime._errors import AudioFileError, MissingExtraError
from microturn.runtime.audio_file import FileSource, inspect, open_recording

pytestmark = pytest.mark.unit

KINDS = {
    "wav": ("WAV", "PCM_16", 44_100),
    "flac": ("FLAC", "PCM_16", 48_000),
    "ogg": ("OGG", "VORBIS", 22_050),
    "opus": ("OGG", "OPUS", 48_000),
    "mp3": ("MP3", "MPEG_LAYER_III", 44_100),
}


def tone(duration_s: float, rate_hz: int, level: float = 0.3) -> Samples:
    times = np.arange(int(duration_s * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def recording(folder: Path, kind: str, duration_s: float = 2.5, channels: int = 2) -> Path:
    container, encoding, rate_hz = KINDS[kind]
    path = folder / f"a.{kind}"
    sound = np.stack([tone(duration_s, rate_hz)] * channels, axis=1)
    soundfile.write(path, sound, rate_hz, format=container, subtype=encoding)
    return path


def all_of(source: FileSource, step: int = 3200) -> Samples:
    parts = []
    with source:
        while not source.ended:
            parts.append(source.take(step))
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_whole_file_at_16_khz_mono(tmp_path: Path, kind: str) -> None:
    path = recording(tmp_path, kind)
    whole, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    divisor = int(np.gcd(rate_hz, 16_000))
    expected = signal.resample_poly(
        whole.mean(axis=1, dtype=np.float32), 16_000 // divisor, rate_hz // divisor
    )
    got = all_of(open_recording(path, ahead=False))
    assert len(expected) <= len(got) < len(expected) + 3200
    np.testing.assert_allclose(got[: len(expected)], expected, atol=3e-6)
    assert not np.any(got[len(expected) :])


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_any_number_of_channels_is_mixed_to_one(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.wav"
    sound = np.zeros((16_000, channels), np.float32)
    sound[:, 0] = 0.8
    soundfile.write(path, sound, 16_000, subtype="FLOAT")
    got = open_recording(path, ahead=False).take(16_000)
    np.testing.assert_allclose(got, 0.8 / channels, atol=1e-6)


def test_the_size_of_the_steps_does_not_change_the_sound(tmp_path: Path) -> None:
    path = recording(tmp_path, "wav")
    one = all_of(open_recording(path, ahead=False), 3200)
    other = all_of(open_recording(path, ahead=False), 1111)
    shorter = min(len(one), len(other))
    assert np.array_equal(one[:shorter], other[:shorter])


def test_reading_ahead_gives_the_same_as_reading_in_step(tmp_path: Path) -> None:
    path = recording(tmp_path, "flac", duration_s=6)
    in_step = all_of(open_recording(path, ahead=False))
    with open_recording(path) as source:
        wait_for(lambda: not source._thread.is_alive())
        assert np.array_equal(all_of(source), in_step)
        assert source.missing_samples == 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Let another thread come as far as `condition`; fail after 5 s."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the other thread did not come so far")


def test_the_reader_waits_when_it_is_far_ahead_and_ends_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16_000 * 60, np.float32), 16_000)
    source = open_recording(path)
    wait_for(lambda: source._queue is not None and source._queue.full())
    assert source._reader.frames <= 16_000 * (audio_file.LOOK_AHEAD_BLOCKS + 2)
    source.close()
    assert not any(thread.name == "audio file" for thread in threading.enumerate())
    assert source.ended
    assert source.warnings == []


def test_a_slow_disk_gives_silence_that_is_counted(tmp_path: Path) -> None:
    path = recording(tmp_path, "wav", duration_s=4)
    gate = threading.Event()
    reader = audio_file._open(path)
    quick = reader.file.read

    def slow(frames: int, dtype: str, always_2d: bool) -> npt.NDArray[np.float32]:
        if reader.frames >= 44_100:
            gate.wait(5)
        return quick(frames, dtype, always_2d)

    reader.file.read = slow  # type: ignore[method-assign]  # because the disk is what is faked here
    with FileSource(reader) as source:
        heard = source.take(32_000)
        assert source.missing_samples > 15_000
        assert not np.any(heard[-15_000:])
        assert not source.ended
        gate.set()
        wait_for(lambda: np.any(source.take(3200)) == np.True_)


def test_what_is_not_a_number_becomes_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sound = np.full(16_000, 0.5, np.float32)
    sound[[10, 20, 30]] = [np.nan, np.inf, -np.inf]
    soundfile.write(path, sound, 16_000, subtype="FLOAT")
    got = open_recording(path, ahead=False).take(16_000)
    assert np.array_equal(np.flatnonzero(got == 0), [10, 20, 30])


def test_sound_beyond_full_scale_is_brought_into_range(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(16_000, 30_000.0, np.float32), 16_000, subtype="FLOAT")
    assert open_recording(path, ahead=False).take(3200).max() == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_that_breaks_off_is_played_as_far_as_it_goes(tmp_path: Path, kind: str) -> None:
    path = recording(tmp_path, kind, duration_s=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_recording(path, ahead=False)
    heard = np.count_nonzero(all_of(source)) / 16_000
    assert 5 < heard < 15
    assert "breaks off" in " ".join(source.warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_recording_gives_no_warning(tmp_path: Path, kind: str) -> None:
    path = recording(tmp_path, kind)
    source = open_recording(path, ahead=False)
    all_of(source)
    assert source.warnings == []
    assert inspect(path).warnings == []


def test_a_recording_is_described(tmp_path: Path) -> None:
    info = inspect(recording(tmp_path, "wav"))
    assert (info.rate_hz, info.channels, info.duration_s) == (44_100, 2, 2.5)
    assert info.peak == pytest.approx(0.3, abs=0.001)
    assert info.rms_dbfs == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.01)
    assert info.clipped_share == 0


def test_a_silent_recording_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    info = inspect(path)
    assert "silent" in info.warnings[0]
    assert info.rms_dbfs == -np.inf


def test_a_clipped_recording_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.clip(tone(1, 16_000, 1.5), -1, 1), 16_000)
    assert "clipped" in inspect(path).warnings[0]


def test_a_very_long_recording_is_warned_of_before_it_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16_000, np.float32), 2)
    with open_recording(path, ahead=False) as source:
        assert "2.2 hours" in source.warnings[0]


def write_nothing(folder: Path) -> Path:
    path = folder / "a.wav"
    path.write_bytes(b"")
    return path


def write_text(folder: Path) -> Path:
    path = folder / "a.wav"
    path.write_text("Dear diary, today nothing was recorded.\n" * 100)
    return path


def write_no_samples(folder: Path) -> Path:
    path = folder / "a.wav"
    soundfile.write(path, np.zeros(0, np.float32), 16_000)
    return path


def write_raw(folder: Path) -> Path:
    path = folder / "a.raw"
    path.write_bytes(bytes(6400))
    return path


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda folder: folder / "missing.wav", "no such file"),
        (lambda folder: folder, "a folder"),
        (write_nothing, "is empty"),
        (write_no_samples, "0 samples"),
        (write_raw, "raw samples"),
        (write_text, "expected wav, flac, ogg"),
    ],
)
def test_a_file_that_cannot_be_played_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Path], what: str
) -> None:
    path = make(tmp_path)
    for use in (open_recording, inspect):
        with pytest.raises(AudioFileError, match=what) as caught:
            use(path)
        assert str(path) in str(caught.value)
        assert ";" in str(caught.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = recording(tmp_path, "wav")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match="speech"):
        open_recording(path)
