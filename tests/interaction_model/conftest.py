"""The loaded parts of the cascade, once for all tests that need them, and sound to try them on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.cascade.vad import SileroVad
from microturn.interaction_model.cascade.voice import Voice
from microturn.interaction_model.cascade.voice_model import VoiceModel
from microturn.protocols import Samples
from microturn.weights import locate

REAL_SPEECH = Path(os.environ.get("MICROTURN_SPEECH_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def vad() -> SileroVad:
    """The voice activity detector."""
    return SileroVad(locate("silero-vad"))


@pytest.fixture(scope="session")
def recognizer() -> MoonshineRecognizer:
    """The speech recogniser."""
    return MoonshineRecognizer.shipped()


@pytest.fixture(scope="session")
def voice_model() -> VoiceModel:
    """The voice's model."""
    return VoiceModel()


@pytest.fixture(scope="session")
def voice(voice_model: VoiceModel) -> Voice:
    """The default voice."""
    return Voice(voice_model)


@pytest.fixture(scope="session")
def real_speech() -> Path:
    """A folder with recordings of people, 16 kHz FLAC, and `transcripts.tsv`."""
    folder = REAL_SPEECH / "librispeech" / "dev"
    if not folder.is_dir():
        pytest.skip(f"no recordings of people in {folder}; name a folder with MICROTURN_SPEECH_DATA")
    return folder


def as_heard(audio: Samples) -> Samples:
    """Return the voice's sound at the rate of the ears."""
    return np.asarray(resample_poly(audio, 2, 3), np.float32)
