"""The voices of scenes: says a scene's phrases, tells where their words lie, and keeps the sound for the mixing.

Knows scenes by their phrases only; nothing of rooms.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict

import numpy as np

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.training.scene import Phrase
from microturn.interaction_model.training.speakers import Speaker, SpeakerPool
from microturn.interaction_model.training.utterances import Synthesizer, Utterance, trimmed
from microturn.protocols import INPUT_RATE_HZ, Samples

KEPT_CLIPS = 256
"""Clips whose sound is kept; a scene has fewer than 30. What was dropped is said again when it is asked for."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


class SceneVoices:
    """Phrases of scenes by speakers of one pool; see `cast.Voices`. Blocks, one thread at a time."""

    def __init__(self, synthesizer: Synthesizer, pool: SpeakerPool) -> None:
        """Say phrases with the synthesizer, which must know the engines of the pool."""
        self._synthesizer = synthesizer
        self._pool = pool
        self._clips: OrderedDict[str, Utterance] = OrderedDict()

    def phrase(self, words: Words, *, scene_seed: int, speaker: int, take: int) -> Phrase:
        """Say a phrase; its first word begins at 0. Equal arguments give the same phrase."""
        voice = self._pool.draw(np.random.default_rng([scene_seed, speaker]))
        name = f"{voice.name}/{zlib.crc32(f'{scene_seed} {take}'.encode())}/{' '.join(words)}"
        spans = tuple(
            (word.start_sample // _SAMPLES_PER_MS, -(-word.end_sample // _SAMPLES_PER_MS))
            for word in self._clip(name).words
        )
        return Phrase(words, spans, name)

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a phrase that this object, or one of the same engines, has made: 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _clip(self, name: str) -> Utterance:
        if name in self._clips:
            self._clips.move_to_end(name)
            return self._clips[name]
        voice, seed, text = name.split("/")
        said = self._synthesizer.say(text.split(), Speaker.named(voice), int(seed))
        self._clips[name] = trimmed(said, margin_samples=0)
        if len(self._clips) > KEPT_CLIPS:
            self._clips.popitem(last=False)
        return self._clips[name]
