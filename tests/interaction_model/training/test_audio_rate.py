"""Sound of other rates."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from microturn.interaction_model.training.audio_rate import at_input_rate, rate_ratio, read_sound
from microturn.protocols import Samples

pytestmark = pytest.mark.unit


def tone(hertz: float, rate_hz: int, seconds: float = 1.0) -> Samples:
    return np.sin(2 * np.pi * hertz * np.arange(int(rate_hz * seconds)) / rate_hz).astype(np.float32)


def peak_hz(audio: Samples) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(audio))) * 16_000 / audio.size)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_usual_rates_are_met_exactly(rate_hz: int) -> None:
    assert rate_ratio(rate_hz) == Fraction(16_000, rate_hz)


def test_odd_rates_are_met_closely() -> None:
    for rate_hz in np.linspace(14_000, 26_000, 300):
        assert float(rate_ratio(rate_hz)) * rate_hz / 16_000 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("rate_hz", [8000, 22_050, 24_000])
def test_a_tone_keeps_its_pitch_and_its_length(rate_hz: int) -> None:
    audio = at_input_rate(tone(1000, rate_hz), rate_hz)
    assert audio.dtype == np.float32 and abs(audio.size - 16_000) <= 1
    assert peak_hz(audio) == pytest.approx(1000, abs=2)


def test_a_file_can_be_played_faster_and_higher(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1000, 16_000), 16_000)
    audio = read_sound(tmp_path / "a.wav", speed=1.25)
    assert audio.size == pytest.approx(12_800, abs=2) and peak_hz(audio) == pytest.approx(1250, abs=3)


def test_channels_are_mixed_and_offsets_removed(tmp_path: Path) -> None:
    left = 0.5 * tone(1000, 16_000) + np.float32(0.2)
    soundfile.write(tmp_path / "a.flac", np.stack([left, np.full_like(left, 0.1)], axis=1), 16_000)
    audio = read_sound(tmp_path / "a.flac")
    assert audio.ndim == 1 and audio.mean() == pytest.approx(0, abs=1e-5)
    assert np.abs(audio).max() == pytest.approx(0.25, abs=1e-3)
