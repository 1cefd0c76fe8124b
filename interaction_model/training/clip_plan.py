"""What a bank of clips holds: which speaker says which words in which file. Knows nothing of how it sounds.

Every file follows from the plan and its own name, whatever was made before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from microturn.interaction_model.native.vocabulary import FINGERPRINT, WORDS
from microturn.interaction_model.training.phrases import draw_phrase
from microturn.interaction_model.training.shard_folder import Plan
from microturn.interaction_model.training.speakers import Engine, Speaker, SpeakerPool, Split
from microturn.protocols import INPUT_RATE_HZ

FORMAT = 1
"""Raised when the same plan gives other files."""
SHARD_MINUTES = 10
"""Length of a file of phrases: 19 MB, and less than a minute of work that a kill can lose."""
SHARD_SAMPLES = SHARD_MINUTES * 60 * INPUT_RATE_HZ
SPEAKERS_PER_WORD_SHARD = 4
"""A file of single words holds each word by each of so many speakers, about 10 minutes."""
PHRASES_PER_SPEAKER = 8
"""Phrases that a speaker says before another one is drawn."""


@dataclass(frozen=True, slots=True)
class Line:
    """One clip to be made."""

    words: tuple[str, ...]
    speaker: Speaker
    seed: int


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What is in a bank."""

    phrase_minutes: int
    """Length of all phrases, rounded up to whole files of 10 minutes."""
    word_speakers: int
    """How many speakers say every word of the vocabulary alone, rounded up to whole files of 4."""
    seed: int
    split: Split = Split.TRAIN
    engines: tuple[Engine, ...] = (Engine.HIBARI,)

    def names(self) -> list[str]:
        """Return the names of all files."""
        words = -(-self.word_speakers // SPEAKERS_PER_WORD_SHARD)
        phrases = -(-self.phrase_minutes // SHARD_MINUTES)
        return [f"words-{i:04d}" for i in range(words)] + [f"phrases-{i:04d}" for i in range(phrases)]

    def lines(self, name: str) -> Iterator[Line]:
        """Yield the clips of a file, for ever if it is one of phrases: it is full after `SHARD_MINUTES`."""
        digest = hashlib.sha256(f"{FORMAT} {self.seed} {name}".encode()).digest()
        generator = np.random.default_rng(list(digest))
        pool = SpeakerPool(self.engines, self.split)
        if name.startswith("words"):
            for _ in range(SPEAKERS_PER_WORD_SHARD):
                yield from _every_word(pool.draw(generator), generator)
        else:
            for _ in repeat(None):
                yield from _some_phrases(pool.draw(generator), generator)

    def as_written(self) -> Plan:
        """Return what the folder remembers: two plans that differ in length alone share their files."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "split": str(self.split),
            "engines": [str(engine) for engine in sorted(self.engines)],
            "vocabulary": FINGERPRINT,
        }


def _every_word(speaker: Speaker, generator: np.random.Generator) -> Iterator[Line]:
    for word in WORDS:
        yield Line((word,), speaker, _seed(generator))


def _some_phrases(speaker: Speaker, generator: np.random.Generator) -> Iterator[Line]:
    for _ in range(PHRASES_PER_SPEAKER):
        yield Line(draw_phrase(generator), speaker, _seed(generator))


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))
