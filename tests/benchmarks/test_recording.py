"""Speech is laid on seeded noise and described by labels that stay readable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("hibari", reason="the voice of the recordings needs the extra [speech]")
soundfile = pytest.importorskip("soundfile", reason="reading FLAC needs the extra [speech]")

from kokoro_voice import KokoroVoice, WordTiming
from recording import PlacedLine, mix, write_flac, write_labels
from room_noise import room_noise
from spoken_line import Span, SpokenLine

pytestmark = pytest.mark.unit


def line(length_s: float = 0.5) -> SpokenLine:
    samples = round(length_s * 16_000)
    audio = np.full(samples, 0.25, np.float32)
    return SpokenLine(audio, (WordTiming("Yes.", 160, samples),), (Span(100, 300),))


def test_noise_has_the_level_asked_for_and_depends_on_its_name_alone() -> None:
    noise = room_noise(32_000, "a", -60.0)
    assert 20 * np.log10(np.sqrt(np.mean(noise.astype(float) ** 2))) == pytest.approx(-60.0, abs=0.01)
    assert np.array_equal(noise, room_noise(32_000, "a", -60.0))
    assert not np.array_equal(noise, room_noise(32_000, "b", -60.0))


def test_lines_stand_at_their_times_and_noise_everywhere() -> None:
    sound = mix([PlacedLine(400, line()), PlacedLine(1500, line())], 2500, "room", -60.0)
    assert sound.size == 2.5 * 16_000
    loud = np.flatnonzero(sound > 0.2)
    assert (loud[0], loud[-1]) == (6_400, 31_999)
    assert np.count_nonzero(sound == 0.0) < 100


def test_labels_count_from_the_beginning_of_the_recording() -> None:
    labels = PlacedLine(1000, line()).labels()
    assert (labels["speech_start_ms"], labels["speech_end_ms"]) == (1000, 1500)
    assert labels["pauses"] == [[1100, 1300]]
    assert labels["words"] == [["Yes.", 1010, 1500]]


def test_labels_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    labels = {"text": "Wait, [really]?", "words": [["Wait,", 1, 2], ["so {x}", 3, 4]], "none": []}
    write_labels(tmp_path / "labels.json", labels)
    text = (tmp_path / "labels.json").read_text(encoding="utf-8")
    assert json.loads(text) == labels
    assert '["Wait,", 1, 2]' in text


def test_a_recording_is_16_bit_flac_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    sound = mix([PlacedLine(100, line())], 1000, "room", -60.0)
    for name in ("first.flac", "second.flac"):
        write_flac(tmp_path / name, sound)
    info = soundfile.info(tmp_path / "first.flac")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 16_000)
    assert (tmp_path / "first.flac").read_bytes() == (tmp_path / "second.flac").read_bytes()


def test_what_was_rendered_before_is_not_rendered_again(tmp_path: Path) -> None:
    voice = KokoroVoice(tmp_path)
    path = voice.rendering_path("Yes please.", "am_michael", 1.0)
    path.parent.mkdir(parents=True)
    np.savez(path, audio=np.ones(10, np.float32), bounds=np.array([[0, 4], [5, 10]]))
    rendering = voice.render("Yes please.", "am_michael")
    assert rendering.words == (WordTiming("Yes", 0, 4), WordTiming("please.", 5, 10))
