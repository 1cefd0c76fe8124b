"""Noises by what defines them."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.training.noise import babble, clicks, coloured_noise, hum, mu_law
from microturn.protocols import INPUT_RATE_HZ, Samples

pytestmark = pytest.mark.unit


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def power(audio: Samples, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(audio.size, 1 / INPUT_RATE_HZ)
    return float(np.mean(spectrum[(hertz >= low_hz) & (hertz < high_hz)]))


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_power_falls_with_frequency_as_the_slope_says(slope: float) -> None:
    audio = coloured_noise(generator(), 160_000, slope)
    falls_db = 10 * np.log10(power(audio, 200, 220) / power(audio, 3200, 3520))
    assert falls_db == pytest.approx(slope * 10 * np.log10(16), abs=1.5)


@pytest.mark.parametrize("samples", [1, 2, 3, 1000, 100_001])
def test_noise_has_the_length_and_the_level_that_is_asked_for(samples: int) -> None:
    for audio in (coloured_noise(generator(), samples, 1.0), hum(generator(), samples)):
        assert audio.shape == (samples,) and audio.dtype == np.float32
        if samples > 1:
            assert np.sqrt(np.mean(audio.astype(np.float64) ** 2)) == pytest.approx(1, rel=1e-5)


def test_noise_of_no_length_is_empty() -> None:
    for audio in (coloured_noise(generator(), 0, 1.0), hum(generator(), 0), clicks(generator(), 0, 1.0)):
        assert audio.size == 0 and audio.dtype == np.float32


def test_hum_lies_on_the_mains_and_its_overtones() -> None:
    for seed in range(5):
        audio = hum(generator(seed), 160_000)
        spectrum = np.abs(np.fft.rfft(audio))
        peak_hz = np.argmax(spectrum) / 10
        base = min((50, 60), key=lambda mains: abs(peak_hz / mains - round(peak_hz / mains)))
        assert peak_hz / base == pytest.approx(round(peak_hz / base), abs=0.02)
        assert power(audio, 900, 8000) < 1e-3 * power(audio, 40, 800)


def test_clicks_come_as_often_as_asked_for_and_are_short() -> None:
    audio = clicks(generator(), 160_000, per_second=3.0)
    starts = np.flatnonzero((np.abs(audio[1:]) > 1e-4) & (np.abs(audio[:-1]) <= 1e-12))
    assert 15 <= starts.size <= 45
    assert np.abs(audio).max() == pytest.approx(1)
    assert np.mean(np.abs(audio) > 1e-3) < 0.1


def test_clicks_that_never_come_are_silence() -> None:
    assert not clicks(generator(), 1000, per_second=0.0).any()


def test_babble_is_made_of_its_clips_alone() -> None:
    low = np.sin(2 * np.pi * 500 * np.arange(8000) / INPUT_RATE_HZ).astype(np.float32)
    audio = babble(generator(), 100_000, [low], voices=3)
    assert audio.shape == (100_000,)
    assert power(audio, 450, 550) > 100 * power(audio, 1000, 8000)
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("clips", [[], [np.zeros(0, np.float32)]])
def test_babble_of_nobody_is_refused(clips: list[Samples]) -> None:
    with pytest.raises(ValueError, match="clips"):
        babble(generator(), 100, clips)


def test_babble_with_an_empty_clip_among_others_ends() -> None:
    some = np.ones(100, np.float32)
    assert babble(generator(), 1000, [np.zeros(0, np.float32), some]).shape == (1000,)


def test_telephone_coding_errs_in_proportion_to_the_sound() -> None:
    for level in (1.0, 0.1, 0.01):
        audio = (level * np.sin(np.arange(4000) * 0.1)).astype(np.float32)
        error = mu_law(audio) - audio
        assert 0 < np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(audio**2)) < 0.04


def test_telephone_coding_has_255_values_and_keeps_the_ends() -> None:
    coded = mu_law(np.linspace(-1.5, 1.5, 100_001, dtype=np.float32))
    assert np.unique(coded).size == 255
    assert coded.min() == pytest.approx(-1) and coded.max() == pytest.approx(1)
    assert mu_law(np.zeros(1, np.float32))[0] == 0
