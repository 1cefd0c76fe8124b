"""A speaker of tones, for what does not depend on what speech sounds like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from microturn.interaction_model.native.vocabulary import slot
from microturn.interaction_model.training.scene_voices import SceneVoices
from microturn.interaction_model.training.speakers import Engine, Speaker, SpeakerPool, Split
from microturn.interaction_model.training.utterances import SpokenWord, Utterance
from microturn.protocols import INPUT_RATE_HZ, Samples

LEAD, PAUSE = 400, 800


class ToneSynthesizer:
    """Says each word as a tone whose pitch is the word's slot and whose length and level are the speaker's."""

    def __init__(self) -> None:
        self.calls = 0

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return tones with pauses between them."""
        self.calls += 1
        pieces: list[Samples] = [np.zeros(LEAD, np.float32)]
        spoken: list[SpokenWord] = []
        length = LEAD
        for word in words:
            samples = 1600 + speaker.number % 1600 + seed % 100
            turns = (300 + 5 * slot(word)) * np.arange(samples) / INPUT_RATE_HZ
            pieces += (
                np.float32(0.3) * np.sin(2 * np.pi * turns).astype(np.float32),
                np.zeros(PAUSE, np.float32),
            )
            spoken.append(SpokenWord(word, length, length + samples))
            length += samples + PAUSE
        return Utterance(np.concatenate(pieces), tuple(spoken), speaker.name)


@pytest.fixture
def tones() -> ToneSynthesizer:
    return ToneSynthesizer()


@pytest.fixture
def voices(tones: ToneSynthesizer) -> SceneVoices:
    """Speakers of tones."""
    return SceneVoices(tones, SpeakerPool([Engine.HIBARI], Split.TRAIN))
