"""Who speaks in a scene, as far as times go: how long words take in other people's mouths and in the assistant's.

A scene needs no sound, but its targets depend on when each word ends. The clip bank answers that with the times of
real clips; `estimated_cast` answers it with guesses, for tests and for looking at scenes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.training.scene import Phrase


class Voices(Protocol):
    """Renders, or names the rendering of, other people's phrases."""

    def phrase(self, words: Words, *, scene_seed: int, speaker: int, take: int) -> Phrase:
        """Return a phrase with its times, the same for the same arguments.

        One speaker slot of one scene is one voice; `take` counts the phrases of the scene.
        """


@dataclass(frozen=True, slots=True)
class Cast:
    """The voices of a scene."""

    voices: Voices
    own_word_ms: OwnWordMs


class EstimatedVoices:
    """Phrases with guessed times: a base and a part for each letter, at a tempo of the speaker's own."""

    def phrase(self, words: Words, *, scene_seed: int, speaker: int, take: int) -> Phrase:
        """Guess the times of a phrase; see `Voices.phrase`."""
        tempo = np.random.default_rng([scene_seed, speaker]).uniform(0.8, 1.25)
        jitter = np.random.default_rng([scene_seed, speaker, take]).uniform(0.85, 1.15, len(words))
        spans, begin = [], 0
        for word, factor in zip(words, jitter, strict=True):
            end = begin + round(estimated_word_ms(word) * factor / tempo)
            spans.append((begin, end))
            begin = end + 20
        return Phrase(words, tuple(spans), f"estimated-{scene_seed}-{speaker}-{take}")


def estimated_word_ms(word: str, before: str | None = None) -> int:
    """Guess how long a word takes at a usual tempo, whatever was said before."""
    return 140 + 45 * len(word)


def estimated_cast() -> Cast:
    """Return a cast that needs no sound."""
    return Cast(EstimatedVoices(), estimated_word_ms)
