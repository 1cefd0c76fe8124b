"""Speakers made from hibari's voice: words in, an utterance out.

Knows the voice of the cascade and nothing of how speakers are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microturn.interaction_model.cascade.voice import Voice
from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.interaction_model.training.audio_rate import at_input_rate, rate_ratio
from microturn.interaction_model.training.speakers import Speaker
from microturn.interaction_model.training.utterances import SpokenWord, Utterance, tightened
from microturn.protocols import INPUT_RATE_HZ, OUTPUT_RATE_HZ

_ENDINGS = ("", ".", "?", "!", ",")
"""What may stand after the last word; it changes the melody, and the same words are said in many ways."""
EARLY_SAMPLES = INPUT_RATE_HZ * 30 // 1000
"""How much earlier words end in the sound than the voice's durations say: 25 to 30 ms where a closure shows it."""


class HibariSynthesizer:
    """Says words with hibari in the speaker's style; about 10 ms for a word and 20 ms for a phrase."""

    def __init__(self, model: VoiceModel | None = None) -> None:
        """Speak with a loaded model; by default it is loaded now.

        Raises:
            SpeechExtraMissingError: hibari is not installed.
        """
        self._model = model or VoiceModel()

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words as the speaker says them; `seed` fixes the melody and the noise in the voice."""
        ending = _ENDINGS[int(np.random.default_rng(seed).integers(len(_ENDINGS)))]
        voice = Voice(self._model, style=speaker.style, seed=seed)
        rendering = voice.render(" ".join(words) + ending)
        audio = at_input_rate(rendering.audio, OUTPUT_RATE_HZ)
        ends = [round(timing.end_sample * rate_ratio(OUTPUT_RATE_HZ)) for timing in rendering.words]
        return tightened(Utterance(audio, _filling(words, ends, audio.size), speaker.name))


def _filling(words: Sequence[str], ends: Sequence[int], length: int) -> tuple[SpokenWord, ...]:
    """Give each word the sound from the end of the word before it, and move all ends to where they are heard.

    The voice counts the first 50 ms or so of a word to the space in front of it, and the start of the first word to
    the silence that it begins with, as the levels of its sound show.
    """
    bounds = [0, *(max(end - EARLY_SAMPLES, 0) for end in ends[:-1]), length]
    return tuple(
        SpokenWord(word, start, end) for word, start, end in zip(words, bounds, bounds[1:], strict=False)
    )
