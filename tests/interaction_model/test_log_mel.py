"""The log-mel spectrogram against its definition, written out slowly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from microturn.interaction_model.cascade.log_mel import log_mel
from microturn.protocols import Samples

pytestmark = pytest.mark.unit


def tone(hertz: float, seconds: float = 1.0) -> Samples:
    """A sine."""
    return np.sin(2 * np.pi * hertz * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32)


def slow_log_mel(audio: Samples) -> npt.NDArray[np.float64]:
    """Compute the same in float64 with a loop for each frame and each triangle."""
    padded = np.pad(audio.astype(np.float64), 200, mode="reflect")
    window = np.hanning(401)[:400]
    mels = np.linspace(0, 15 + np.log(8) / (np.log(6.4) / 27), 82)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    result = np.zeros((80, audio.size // 160))
    for frame in range(result.shape[1]):
        power = np.abs(np.fft.rfft(padded[frame * 160 : frame * 160 + 400] * window)) ** 2
        for bin_ in range(80):
            left, middle, right = corners[bin_ : bin_ + 3]
            for k, value in enumerate(power):
                hertz = k * 40.0
                height = min((hertz - left) / (middle - left), (right - hertz) / (right - middle))
                result[bin_, frame] += max(height, 0) * 2 / (right - left) * value
    decades = np.log10(np.maximum(result, 1e-10))
    return np.asarray((np.maximum(decades, decades.max() - 8) + 4) / 4)


def test_it_is_what_the_definition_says() -> None:
    random = np.random.default_rng(0)
    audio = (0.3 * tone(440, 0.1) + 0.1 * random.standard_normal(1_600)).astype(np.float32)
    assert np.allclose(log_mel(audio), slow_log_mel(audio), atol=1e-4)


def test_eight_seconds_are_eight_hundred_frames() -> None:
    assert log_mel(np.zeros(128_000, np.float32)).shape == (80, 800)


def test_a_higher_tone_is_in_a_higher_bin() -> None:
    peaks = [int(np.argmax(log_mel(tone(hertz))[:, 50])) for hertz in (200, 500, 1_000, 3_000, 6_000)]
    assert peaks == sorted(set(peaks))


def test_silence_is_finite_and_flat() -> None:
    assert np.allclose(log_mel(np.zeros(1_600, np.float32)), -1.5)
