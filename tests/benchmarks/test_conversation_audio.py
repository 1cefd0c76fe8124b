"""The example recordings are what their scripts and labels say, and a script that cannot be is refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="reading FLAC needs the extra [speech]")
pytest.importorskip("hibari", reason="the voice of the recordings needs the extra [speech]")

from conversation_audio import Script, ScriptLine, place_lines
from kokoro_voice import KokoroVoice
from spoken_line import levels, parse_marked
from turn_set import read_sound

from microturn.protocols import UserError

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "examples" / "conversation"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
SPEECH_LEVEL = 10 ** (-50 / 20)


def script(name: str) -> Script:
    return Script.model_validate(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")))


def labels(name: str) -> list[dict[str, Any]]:
    content = json.loads((FOLDER / f"{name}.labels.json").read_text(encoding="utf-8"))
    lines: list[dict[str, Any]] = content["lines"]
    return lines


def one_second_voice(folder: Path, *texts: str) -> KokoroVoice:
    """A voice that has spoken these one-word texts before, each for one second."""
    voice = KokoroVoice(folder)
    audio = (0.3 * np.sin(np.arange(24_000) * 0.1)).astype(np.float32)
    for text in texts:
        path = voice.rendering_path(text, "am_michael", 1.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, audio=audio, bounds=np.array([[0, 24_000]]))
    return voice


def made(*lines: ScriptLine, duration_s: float = 10.0) -> Script:
    return Script(voice="am_michael", duration_s=duration_s, seed="test", line=list(lines))


@pytest.mark.parametrize("name", NAMES)
def test_labels_hold_the_words_times_and_pauses_of_the_script(name: str) -> None:
    for entry, line in zip(script(name).line, labels(name), strict=True):
        marked = parse_marked(entry.text)
        assert (line["name"], line["text"]) == (entry.name, marked.text)
        assert [word for word, _, _ in line["words"]] == list(marked.words)
        assert [end - start for start, end in line["pauses"]] == [
            pytest.approx(length_s * 1000, abs=30) for length_s in marked.pauses_s.values()
        ]
        if entry.at_s is not None:
            assert line["speech_start_ms"] == round(entry.at_s * 1000)


@pytest.mark.parametrize("name", NAMES)
def test_speech_is_heard_where_the_labels_say_and_nowhere_else(name: str) -> None:
    loud = np.flatnonzero(levels(read_sound(FOLDER / f"{name}.flac"), 160) > SPEECH_LEVEL) * 10
    inside = np.zeros(loud.shape, bool)
    for line in labels(name):
        mine = (loud >= line["speech_start_ms"]) & (loud < line["speech_end_ms"])
        assert loud[mine][0] == pytest.approx(line["speech_start_ms"], abs=80)
        # A soft last consonant lies near the noise of the room.
        assert loud[mine][-1] == pytest.approx(line["speech_end_ms"], abs=160)
        inside |= mine
    assert inside.all()


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_lasts_as_long_as_its_script_says_and_stays_small(name: str) -> None:
    path = FOLDER / f"{name}.flac"
    info = soundfile.info(path)
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert info.frames == script(name).duration_s * 16_000
    assert path.stat().st_size < 1_500_000


def test_a_line_follows_the_one_before_it(tmp_path: Path) -> None:
    voice = one_second_voice(tmp_path, "First.", "Second.")
    lines = made(
        ScriptLine(name="a", text="First.", at_s=1.0), ScriptLine(name="b", text="Second.", after_s=2.0)
    )
    first, second = place_lines(lines, voice)
    assert (first.start_ms, first.end_ms) == (1000, 2000)
    assert second.start_ms == 4000


@pytest.mark.parametrize("times", [{}, {"at_s": 1.0, "after_s": 1.0}])
def test_a_line_needs_exactly_one_time(times: dict[str, float]) -> None:
    with pytest.raises(UserError, match="exactly one"):
        ScriptLine(name="a", text="First.", **times).start_ms(0)


def test_overlapping_lines_are_refused(tmp_path: Path) -> None:
    lines = made(
        ScriptLine(name="a", text="First.", at_s=1.0), ScriptLine(name="b", text="Second.", at_s=1.5)
    )
    with pytest.raises(UserError, match="ends at 2000 ms"):
        place_lines(lines, one_second_voice(tmp_path, "First.", "Second."))


def test_a_line_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    lines = made(ScriptLine(name="a", text="First.", at_s=1.0), duration_s=1.5)
    with pytest.raises(UserError, match=r"recording of 1\.5 s"):
        place_lines(lines, one_second_voice(tmp_path, "First."))
