"""The committed clips are what their labels and their script say."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile", reason="reading FLAC needs the extra [speech]")
pytest.importorskip("hibari", reason="the voice of the recordings needs the extra [speech]")

from spoken_line import levels, parse_marked
from turn_audio import SetScript
from turn_set import FOLDER, Clip, load_turn_set, read_sound

pytestmark = pytest.mark.unit

SET = load_turn_set()
SCRIPT = SetScript.model_validate(tomllib.loads((FOLDER / "script.toml").read_text(encoding="utf-8")))
SPEECH_LEVEL = 10 ** (-50 / 20)
"""Between the noise, at -60 dBFS, and the weakest sound that counts as speech, at -51 dBFS beside it."""


def test_the_set_has_turns_interruptions_and_backchannels_in_many_voices() -> None:
    turns = SET.of("turn")
    assert len(turns) >= 40
    assert sum(bool(clip.pauses) for clip in turns) >= 20
    assert len({clip.voice for clip in turns}) >= 6
    assert len(SET.of("barge_in")) >= 10
    assert len(SET.of("backchannel")) >= 6


def test_no_clip_is_in_the_voice_of_the_assistant_or_of_the_example() -> None:
    assert not {"af_heart", "am_michael"} & {clip.voice for clip in SET.clips}


def test_labels_and_script_agree() -> None:
    marked = {entry.id: parse_marked(entry.text) for _, _, entry in SCRIPT.entries()}
    assert [clip.id for clip in SET.clips] == list(marked)
    for clip in SET.clips:
        assert clip.text == marked[clip.id].text
        assert len(clip.pauses) == len(marked[clip.id].pauses_s), clip.id


def test_thinking_pauses_last_from_300_to_1000_ms() -> None:
    lengths = [end - start for clip in SET.clips for start, end in clip.pauses]
    assert all(290 <= length <= 1030 for length in lengths)


def test_a_pause_lies_between_two_words() -> None:
    for clip in SET.clips:
        for start, end in clip.pauses:
            assert any(word_end < end and word_start <= start for _, word_start, word_end in clip.words)
            assert any(word_start > start and word_end >= end for _, word_start, word_end in clip.words)


@pytest.mark.parametrize("clip", SET.clips, ids=lambda clip: clip.id)
def test_speech_ends_and_pauses_where_the_labels_say(clip: Clip) -> None:
    level = levels(read_sound(FOLDER / clip.file), 160)
    loud = np.flatnonzero(level > SPEECH_LEVEL)
    assert loud[0] * 10 == pytest.approx(clip.speech_start_ms, abs=60)
    assert (loud[-1] + 1) * 10 == pytest.approx(clip.speech_end_ms, abs=80)
    for start, end in clip.pauses:
        assert level[start // 10 + 1 : end // 10 - 1].max() < SPEECH_LEVEL


@pytest.mark.parametrize("clip", SET.clips, ids=lambda clip: clip.id)
def test_noise_stands_before_and_after_the_speech(clip: Clip) -> None:
    info = soundfile.info(FOLDER / clip.file)
    tail_ms = 3000 if clip.group == "turn" else 1500
    assert (info.samplerate, info.channels) == (SET.sample_rate_hz, 1)
    assert clip.speech_start_ms == 500
    assert info.frames / 16 - clip.speech_end_ms == pytest.approx(tail_ms, abs=1)


def test_every_clip_can_be_understood() -> None:
    assert max(clip.phoneme_error_rate for clip in SET.clips) <= 0.15


def test_the_folder_holds_these_clips_alone_and_stays_small() -> None:
    files = list(FOLDER.glob("*.flac"))
    assert {path.name for path in files} == {clip.file for clip in SET.clips}
    assert sum(path.stat().st_size for path in files) < 6_000_000
