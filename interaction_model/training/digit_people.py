"""Strings of digits put together from recordings of one person, as phrases of scenes.

A clip's name tells all of it, such as `digits:george:105:3-12-0,7-40-80`: whose, played how fast in percent, and for
each digit its take and the milliseconds of silence before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.audio_rate import at_input_rate
from microturn.interaction_model.training.digit_tasks import digits
from microturn.interaction_model.training.phrase_sounds import ClipMemory, phrase_of
from microturn.interaction_model.training.real_speech import DigitRecording
from microturn.interaction_model.training.scene import Phrase, Talk
from microturn.interaction_model.training.stage import Stage
from microturn.interaction_model.training.utterances import SpokenWord, Utterance, joined, trimmed
from microturn.protocols import INPUT_RATE_HZ, Samples

PREFIX = "digits"
SPEEDS = range(88, 116, 3)
"""Percent of the recording's speed; the pitch goes along, so that four people sound like some more. Our choice."""
PAUSES_MS = (20, 180)
"""Silence between two digits; a longer one would be a micro-turn in which the string might be over."""


class DigitPeople:
    """Says digits with recordings; one thread at a time."""

    def __init__(self, recordings: Sequence[DigitRecording]) -> None:
        """Use these recordings.

        Raises:
            ValueError: there is nobody who has said every digit.
        """
        self._takes: dict[str, dict[str, dict[int, DigitRecording]]] = {}
        for each in recordings:
            words = self._takes.setdefault(each.speaker, {})
            words.setdefault(each.word, {})[each.take] = each
        self.people = tuple(
            sorted(who for who, words in self._takes.items() if len(words) == len(THEMES["units"]))
        )
        if not self.people:
            raise ValueError("recordings must hold somebody who says every digit")
        self._clip = ClipMemory(self._joined)

    def tell(self, stage: Stage, share: float) -> None:
        """Write a scene of digits, said by one of the people in a share of scenes; a task of the mixture."""
        if stage.chance(share):
            digits(stage, partial(self._say, stage.one_of(self.people), stage.one_of(SPEEDS)))
        else:
            digits(stage)

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase of these people, 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _say(self, who: str, speed: int, stage: Stage, words: Words) -> Talk:
        parts = []
        for place, word in enumerate(words):
            take = stage.one_of(sorted(self._takes[who][word]))
            pause = stage.between(*PAUSES_MS) if place else 0
            parts.append(f"{THEMES['units'].index(word)}-{take}-{pause}")
        name = f"{PREFIX}:{who}:{speed}:{','.join(parts)}"
        return stage.recording(phrase_of(self._clip(name), name))

    def _joined(self, name: str) -> Utterance:
        _, who, speed, parts = name.split(":")
        said, pauses = [], []
        for part in parts.split(","):
            digit, take, pause = map(int, part.split("-"))
            recording = self._takes[who][THEMES["units"][digit]][take]
            said.append(_played(trimmed(recording.utterance(), 0), int(speed)))
            pauses.append(pause * INPUT_RATE_HZ // 1000)
        return joined(said, pauses[1:])


def _played(utterance: Utterance, percent: int) -> Utterance:
    """A single word, played faster or slower."""
    audio = at_input_rate(utterance.audio, INPUT_RATE_HZ * percent / 100)
    words = (SpokenWord(utterance.words[0].word, 0, np.size(audio)),)
    return Utterance(audio, words, utterance.speaker)
