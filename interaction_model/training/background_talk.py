"""Other people's talk in scenes, cut from recordings that nobody has written down.

Wraps the voices of a scene: the user speaks as before, others are recordings in a share of scenes. A clip's name is
`talk:` with the number of the file, and where in it the talk begins and how long it is, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.training.audio_rate import read_sound
from microturn.interaction_model.training.cast import Voices
from microturn.interaction_model.training.phrase_sounds import ClipMemory
from microturn.interaction_model.training.scene import USER, Phrase
from microturn.interaction_model.training.utterances import Utterance, levelled
from microturn.protocols import INPUT_RATE_HZ, Samples

PREFIX = "talk"
LENGTH_MS = (800, 5000)
"""How long others talk at a time; our choice."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000
_EDGE = 10 * _SAMPLES_PER_MS
"""Samples over which a cut rises and falls, so that it does not click."""


class TalkingOthers:
    """Voices of scenes of which others talk at length; one thread at a time."""

    def __init__(self, voices: Voices, files: Sequence[Path], share: float) -> None:
        """Use `voices` for the user, and in all but a share of scenes for others too.

        Raises:
            ValueError: there are no files.
        """
        if not files:
            raise ValueError("files must not be empty")
        self._voices = voices
        self._files = tuple(files)
        self._share = share
        self._clip = ClipMemory(self._cut)
        self._whole = ClipMemory(self._read)

    def phrase(self, words: Words, *, scene_seed: int, speaker: int, take: int) -> Phrase:
        """Return a phrase, or talk without words in its place; see `Voices.phrase`."""
        is_recorded = np.random.default_rng([scene_seed, 2]).random() < self._share
        if speaker == USER or not is_recorded:
            return self._voices.phrase(words, scene_seed=scene_seed, speaker=speaker, take=take)
        who = int(np.random.default_rng([scene_seed, speaker, 3]).integers(len(self._files)))
        place = np.random.default_rng([scene_seed, speaker, take, 4])
        whole = self._whole(str(who)).audio.size // _SAMPLES_PER_MS
        length = min(int(place.integers(*LENGTH_MS)), whole)
        begin = int(place.integers(whole - length + 1))
        return Phrase((), ((0, length),), f"{PREFIX}:{who}:{begin}:{length}")

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a piece of talk, 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _read(self, number: str) -> Utterance:
        return Utterance(read_sound(self._files[int(number)]), (), number)

    def _cut(self, name: str) -> Utterance:
        _, who, begin, length = name.split(":")
        first = int(begin) * _SAMPLES_PER_MS
        piece = self._whole(who).audio[first : first + int(length) * _SAMPLES_PER_MS].copy()
        edge = min(_EDGE, piece.size // 2)
        slope = np.linspace(0, 1, edge, dtype=np.float32)
        piece[:edge] *= slope
        piece[piece.size - edge :] *= slope[::-1]
        return levelled(Utterance(piece, (), who))
