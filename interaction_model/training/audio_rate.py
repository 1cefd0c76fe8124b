"""The one place of the training that loads scipy and soundfile: sound of any rate becomes sound at 16 kHz.

Knows nothing of speech.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microturn.interaction_model._errors import SpeechExtraMissingError
from microturn.protocols import INPUT_RATE_HZ, Samples

_LARGEST_FACTOR = 500
"""Keeps the filter short; the rates in use, 8 to 48 kHz, are met exactly, others to one in 1,000."""


def rate_ratio(rate_hz: float) -> Fraction:
    """Return how many samples at 16 kHz one sample of that rate becomes."""
    return Fraction(INPUT_RATE_HZ / rate_hz).limit_denominator(_LARGEST_FACTOR)


def at_input_rate(audio: Samples, rate_hz: float) -> Samples:
    """Return sound of another rate at 16 kHz, by a polyphase filter.

    Raises:
        SpeechExtraMissingError: scipy is not installed.
    """
    ratio = rate_ratio(rate_hz)
    if ratio == 1 or audio.size == 0:
        return audio
    try:
        from scipy import signal
    except ImportError as error:
        raise SpeechExtraMissingError("scipy") from error
    return np.asarray(signal.resample_poly(audio, ratio.numerator, ratio.denominator), np.float32)


def read_sound(path: Path, *, speed: float = 1.0) -> Samples:
    """Return a WAV or FLAC file as one channel at 16 kHz without constant offset, played `speed` times as fast and as high.

    Raises:
        SpeechExtraMissingError: soundfile or scipy is not installed.
    """
    try:
        import soundfile
    except ImportError as error:
        raise SpeechExtraMissingError("soundfile") from error
    audio: npt.NDArray[Any]
    audio, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(axis=1)
    # A constant offset would become a click at both ends.
    return at_input_rate(np.asarray(mono - mono.mean(), np.float32), rate_hz * speed)
