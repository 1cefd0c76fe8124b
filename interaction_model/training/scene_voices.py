"""The voices of scenes: says a scene's phrases, tells where their words lie, and keeps the sound for the mixing.

Knows scenes by their phrases only; nothing of rooms.
"""

from __future__ import annotations

import zlib

import numpy as np

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.training.phrase_sounds import ClipMemory, phrase_of
from microturn.interaction_model.training.scene import Phrase
from microturn.interaction_model.training.speakers import Speaker, SpeakerPool
from microturn.interaction_model.training.utterances import Synthesizer, Utterance, trimmed
from microturn.protocols import Samples


class SceneVoices:
    """Phrases of scenes by speakers of one pool; see `cast.Voices`. Blocks, one thread at a time."""

    def __init__(self, synthesizer: Synthesizer, pool: SpeakerPool) -> None:
        """Say phrases with the synthesizer, which must know the engines of the pool."""
        self._synthesizer = synthesizer
        self._pool = pool
        self._clip = ClipMemory(self._said)

    def phrase(self, words: Words, *, scene_seed: int, speaker: int, take: int) -> Phrase:
        """Say a phrase; its first word begins at 0. Equal arguments give the same phrase."""
        voice = self._pool.draw(np.random.default_rng([scene_seed, speaker]))
        name = f"{voice.name}/{zlib.crc32(f'{scene_seed} {take}'.encode())}/{' '.join(words)}"
        return phrase_of(self._clip(name), name)

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase that this object, or one of the same engines, has made: 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _said(self, name: str) -> Utterance:
        voice, seed, text = name.split("/")
        said = self._synthesizer.say(text.split(), Speaker.named(voice), int(seed))
        return trimmed(said, margin_samples=0)
