"""Recordings of people: spoken digits with their word, talk that is not written down, and a little that is.

Both are optional. The folder is an argument, or the one that MICROTURN_SPEECH_DATA names. Knows the names of files;
nothing of synthetic speakers.

What the parts are for is our choice. Digits: four speakers to train on, of whom takes 0 to 9 are kept to watch the
training, and two whom the model never hears. Talk: people to be heard in the background and beside the user. It holds
words of the vocabulary that nobody has marked, so it may only be mixed in as somebody who is not listened to, unless a
file of transcripts says what they are. Texts: other people, read aloud from a text that is there; to examine with only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES, written_words
from microturn.interaction_model.training._errors import SpeechDataMissingError
from microturn.interaction_model.training.audio_rate import read_sound
from microturn.interaction_model.training.speakers import HELD_OUT_SHARE, Split
from microturn.interaction_model.training.utterances import (
    SpokenWord,
    Utterance,
    levelled,
    tightened,
    trimmed,
)
from microturn.protocols import INPUT_RATE_HZ, Samples

VARIABLE = "MICROTURN_SPEECH_DATA"
HELD_OUT_DIGIT_SPEAKERS = frozenset({"lucas", "theo"})
VALIDATION_TAKES = range(10)
"""0 to 4 are the data set's own test part, which a copy of it may lack; 5 to 9 are always there."""
MARGIN_SAMPLES = INPUT_RATE_HZ // 20
"""Silence that is kept around a digit, at most 50 ms."""


class DigitPart(StrEnum):
    """What recordings of digits may be used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Other takes of the speakers that are trained on."""
    HELD_OUT = "held-out"
    """Speakers that are not trained on."""


@dataclass(frozen=True, slots=True)
class DigitRecording:
    """A file with one digit."""

    path: Path
    word: str
    speaker: str
    take: int

    @property
    def part(self) -> DigitPart:
        """What it may be used for."""
        if self.speaker in HELD_OUT_DIGIT_SPEAKERS:
            return DigitPart.HELD_OUT
        return DigitPart.VALIDATION if self.take in VALIDATION_TAKES else DigitPart.TRAIN

    def utterance(self) -> Utterance:
        """Read the digit at 16 kHz, at the usual level and without the silence around it.

        Raises:
            SpeechExtraMissingError: soundfile or scipy is not installed.
        """
        audio = read_sound(self.path)
        whole = Utterance(audio, (SpokenWord(self.word, 0, audio.size),), f"digits-{self.speaker}")
        return levelled(trimmed(tightened(whole), MARGIN_SAMPLES))


def speech_data(folder: Path | None = None) -> Path:
    """Return the folder with recordings of people: the argument, or the one in MICROTURN_SPEECH_DATA.

    Raises:
        SpeechDataMissingError: neither is given, or there is no such folder.
    """
    named = folder or Path(os.environ.get(VARIABLE, ""))
    if named == Path() or not named.is_dir():
        raise SpeechDataMissingError("recordings of people", named)
    return named


def spoken_digits(folder: Path | None = None, part: DigitPart | None = None) -> list[DigitRecording]:
    """Return the recordings of digits of a part, of all parts by default, in the order of their names.

    They are files DIGIT_SPEAKER_TAKE.wav in `spoken-digits`, as in the Free Spoken Digit Dataset.

    Raises:
        SpeechDataMissingError: there are none.
    """
    place = speech_data(folder) / "spoken-digits"
    found = [_digit(path) for path in sorted(place.glob("[0-9]_*_*.wav"))]
    if not found:
        raise SpeechDataMissingError("spoken digits", place)
    return [recording for recording in found if part is None or recording.part is part]


def talk_files(split: Split, folder: Path | None = None) -> list[Path]:
    """Return the files of talk that is not written down, those of the split's speakers, in the order of their names.

    They are files SPEAKER-CHAPTER-NUMBER.flac in `librispeech/speakers`; a hash of SPEAKER decides the split.

    Raises:
        SpeechDataMissingError: there are none at all.
    """
    place = speech_data(folder) / "librispeech" / "speakers"
    found = sorted(place.glob("*-*-*.flac"))
    if not found:
        raise SpeechDataMissingError("talk", place)
    return [path for path in found if _talker_split(path.name.partition("-")[0]) is split]


def talk(split: Split, folder: Path | None = None) -> Iterator[Samples]:
    """Yield talk at 16 kHz, file by file; see `talk_files`."""
    for path in talk_files(split, folder):
        yield read_sound(path)


def spoken_texts(folder: Path | None = None) -> Mapping[Path, Words]:
    """Return the recordings whose text is there, in the order of their names, with the words of each, lower case.

    They are the FLAC files in `librispeech/dev`; each line of `transcripts.tsv` is a file's name, a tab, and its text.

    Raises:
        SpeechDataMissingError: there are none.
    """
    place = speech_data(folder) / "librispeech" / "dev"
    table = place / "transcripts.tsv"
    if not table.is_file():
        raise SpeechDataMissingError("recordings with their text", place)
    rows = (line.split("\t") for line in table.read_text("utf-8").splitlines() if line)
    texts = {place / name: written_words(text) for name, text in sorted(rows)}
    return {path: words for path, words in texts.items() if path.is_file()}


def _digit(path: Path) -> DigitRecording:
    digit, speaker, take = path.stem.split("_")
    return DigitRecording(path, THEMES["units"][int(digit)], speaker, int(take))


def _talker_split(talker: str) -> Split:
    digest = hashlib.sha256(f"microturn talker {talker}".encode()).digest()
    draw = int.from_bytes(digest[:8]) / 2**64
    return Split.HELD_OUT if draw < HELD_OUT_SHARE else Split.TRAIN
