"""Utterances: sound as the model hears it, with the samples where each word begins and ends.

Knows nothing of who made the sound, nor of rooms and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.training.speakers import Speaker
from microturn.protocols import INPUT_RATE_HZ, Samples

LEVEL_FRAME = INPUT_RATE_HZ // 100
"""Levels are judged in frames of 10 ms."""
SILENCE_BELOW = 10 ** (-40 / 20)
"""A frame this much quieter than the loudest one is silence (-40 dB; our choice)."""

USUAL_LEVEL = 0.1
"""Root mean square of the sounding parts of an utterance (-20 dBFS), as the assistant's own voice has it."""
PEAK = 0.95


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """Where one word lies in the sound."""

    word: str
    start_sample: int
    end_sample: int
    """One past its last sample."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A few words said by one speaker."""

    audio: Samples
    """16 kHz, shape `(S,)`, in [-1, 1]."""
    words: tuple[SpokenWord, ...]
    """In the order of time; they do not overlap."""
    speaker: str

    @property
    def text(self) -> tuple[str, ...]:
        """The words alone."""
        return tuple(word.word for word in self.words)


class Synthesizer(Protocol):
    """Makes utterances; blocks, and is used by one thread at a time."""

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words, at least one, as the speaker says them; equal arguments give equal samples."""
        ...


def joined(utterances: Sequence[Utterance], pauses: Sequence[int]) -> Utterance:
    """Return utterances of one speaker one after another, with `pauses` samples of silence between them.

    Raises:
        ValueError: there is not one pause fewer than there are utterances, or they are of several speakers.
    """
    if len(pauses) != len(utterances) - 1:
        raise ValueError(f"pauses must be {len(utterances) - 1} numbers, got {len(pauses)}")
    if len(speakers := {utterance.speaker for utterance in utterances}) != 1:
        raise ValueError(f"utterances must be of one speaker, got {len(speakers)} speakers")
    pieces: list[Samples] = []
    words: list[SpokenWord] = []
    length = 0
    for utterance, pause in zip(utterances, (*pauses, 0), strict=True):
        words += (moved(word, length) for word in utterance.words)
        pieces += (utterance.audio, np.zeros(pause, np.float32))
        length += utterance.audio.size + pause
    return Utterance(np.concatenate(pieces), tuple(words), utterances[0].speaker)


def moved(word: SpokenWord, by_samples: int) -> SpokenWord:
    """Return the word at another place."""
    return SpokenWord(word.word, word.start_sample + by_samples, word.end_sample + by_samples)


def tightened(utterance: Utterance) -> Utterance:
    """Return the utterance with every word cut to its sound: silence at its edges belongs to no word.

    A word keeps its times if all of it is silence, or if less than a third of it would be left.
    """
    loud = sounding_frames(utterance.audio)
    words = tuple(_tight(word, loud) for word in utterance.words)
    return Utterance(utterance.audio, words, utterance.speaker)


def trimmed(utterance: Utterance, margin_samples: int) -> Utterance:
    """Return the utterance without what lies further than the margin before its first and after its last word."""
    begin = max(utterance.words[0].start_sample - margin_samples, 0)
    end = min(utterance.words[-1].end_sample + margin_samples, utterance.audio.size)
    words = tuple(moved(word, -begin) for word in utterance.words)
    return Utterance(utterance.audio[begin:end], words, utterance.speaker)


def sounding_frames(audio: Samples) -> npt.NDArray[np.bool_]:
    """Return for each whole or last part of a 10 ms frame whether it is louder than silence, shape `(F,)`."""
    if audio.size == 0:
        return np.zeros(0, np.bool_)
    padded = np.pad(audio, (0, -audio.size % LEVEL_FRAME)).reshape(-1, LEVEL_FRAME)
    level = np.sqrt(np.mean(np.square(padded, dtype=np.float64), axis=1))
    return np.asarray(level > SILENCE_BELOW * level.max())


def speech_level(audio: Samples) -> float:
    """Return the root mean square of the parts that are not silence; 0 for silence."""
    loud = np.repeat(sounding_frames(audio), LEVEL_FRAME)[: audio.size]
    if not loud.any():
        return 0.0
    return float(np.sqrt(np.mean(np.square(audio[loud], dtype=np.float64))))


def levelled(utterance: Utterance) -> Utterance:
    """Return the utterance at `USUAL_LEVEL`, or less if a sample would be larger than `PEAK`."""
    level, peak = speech_level(utterance.audio), float(np.max(np.abs(utterance.audio), initial=0.0))
    if level == 0.0:
        return utterance
    gain = min(USUAL_LEVEL / level, PEAK / peak)
    return Utterance(utterance.audio * np.float32(gain), utterance.words, utterance.speaker)


def _tight(word: SpokenWord, loud: npt.NDArray[np.bool_]) -> SpokenWord:
    first, last = word.start_sample // LEVEL_FRAME, -(-word.end_sample // LEVEL_FRAME)
    sounding = np.flatnonzero(loud[first:last]) + first
    if sounding.size == 0:
        return word
    start = max(word.start_sample, int(sounding[0]) * LEVEL_FRAME)
    end = min(word.end_sample, (int(sounding[-1]) + 1) * LEVEL_FRAME)
    is_enough = 3 * (end - start) >= word.end_sample - word.start_sample
    return SpokenWord(word.word, start, end) if is_enough else word
