"""Recordings of people, made here or of the data folder if there is one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.training._errors import SpeechDataMissingError
from microturn.interaction_model.training.real_speech import (
    HELD_OUT_DIGIT_SPEAKERS,
    MARGIN_SAMPLES,
    VARIABLE,
    DigitPart,
    speech_data,
    spoken_digits,
    talk,
    talk_files,
)
from microturn.interaction_model.training.speakers import Split
from microturn.interaction_model.training.utterances import USUAL_LEVEL, speech_level

pytestmark = pytest.mark.unit

REAL = Path(os.environ.get(VARIABLE, Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Digits of four speakers at 8 kHz with silence around them, and talk of 40 people."""
    digits, talkers = tmp_path / "spoken-digits", tmp_path / "librispeech" / "speakers"
    digits.mkdir()
    talkers.mkdir(parents=True)
    sound = np.zeros(8000)
    sound[2000:6000] = 0.02 * np.sin(np.arange(4000) * 0.7)
    for speaker in ("jackson", "george", *HELD_OUT_DIGIT_SPEAKERS):
        for take in (0, 9, 10, 49):
            soundfile.write(digits / f"7_{speaker}_{take}.wav", sound + 0.01, 8000)
    for talker in range(40):
        soundfile.write(talkers / f"{talker}-1-0000.flac", sound, 16_000)
    return tmp_path


def test_digits_are_split_by_speaker_and_take(recordings: Path) -> None:
    parts = {
        part: {(each.speaker, each.take) for each in spoken_digits(recordings, part)} for part in DigitPart
    }
    assert {speaker for speaker, _ in parts[DigitPart.HELD_OUT]} == HELD_OUT_DIGIT_SPEAKERS
    assert {take for _, take in parts[DigitPart.VALIDATION]} == {0, 9}
    assert {take for _, take in parts[DigitPart.TRAIN]} == {10, 49}
    assert sum(map(len, parts.values())) == len(spoken_digits(recordings)) == 16
    speakers = {part: {speaker for speaker, _ in those} for part, those in parts.items()}
    assert not speakers[DigitPart.TRAIN] & speakers[DigitPart.HELD_OUT]


def test_a_digit_is_heard_at_16_khz_at_the_usual_level_without_silence(recordings: Path) -> None:
    digit = spoken_digits(recordings)[0].utterance()
    (word,) = digit.words
    assert word.word == "seven" and digit.audio.dtype == np.float32
    assert word.start_sample == MARGIN_SAMPLES
    assert word.end_sample - word.start_sample == pytest.approx(8000, abs=320)
    assert digit.audio.size - word.end_sample == MARGIN_SAMPLES
    assert speech_level(digit.audio) == pytest.approx(USUAL_LEVEL, rel=0.02)


def test_talkers_are_of_one_split_each(recordings: Path) -> None:
    train, held_out = (talk_files(split, recordings) for split in (Split.TRAIN, Split.HELD_OUT))
    assert len(train) + len(held_out) == 40 and not set(train) & set(held_out)
    assert 1 <= len(held_out) <= 10


def test_talk_is_read_file_by_file(recordings: Path) -> None:
    sounds = list(talk(Split.HELD_OUT, recordings))
    assert len(sounds) == len(talk_files(Split.HELD_OUT, recordings))
    assert {sound.size for sound in sounds} == {8000}


def test_the_folder_is_the_argument_or_the_variable(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(recordings))
    assert speech_data() == recordings and len(spoken_digits()) == 16
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(SpeechDataMissingError, match=VARIABLE):
        speech_data()


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpeechDataMissingError, match="recordings of people"):
        speech_data(tmp_path / "nowhere")
    with pytest.raises(SpeechDataMissingError, match="spoken digits"):
        spoken_digits(tmp_path)
    with pytest.raises(SpeechDataMissingError, match="talk"):
        talk_files(Split.TRAIN, tmp_path)


@pytest.mark.skipif(not (REAL / "spoken-digits").is_dir(), reason=f"no recordings; name them with {VARIABLE}")
def test_real_digits_are_cut_to_plausible_words() -> None:
    chosen = spoken_digits(REAL)[::90]
    lengths = []
    for recording in chosen:
        (word,) = recording.utterance().words
        lengths.append((word.end_sample - word.start_sample) / 16_000)
    assert min(lengths) > 0.1 and 0.25 < np.median(lengths) < 0.6 and max(lengths) < 1.5
    for part, speakers in ((DigitPart.TRAIN, 4), (DigitPart.VALIDATION, 4), (DigitPart.HELD_OUT, 2)):
        assert len({recording.speaker for recording in spoken_digits(REAL, part)}) == speakers
