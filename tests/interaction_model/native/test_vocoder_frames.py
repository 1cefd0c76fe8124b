"""The code of a frame: what it keeps of a spectrum, and what its filters are."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.native.vocoder_frames import (
    FILTER_SAMPLES,
    FLOOR,
    FRAME_SIZE,
    SPECTRUM_BINS,
    Spectra,
    encode,
    harmonic_filters,
    is_voiced,
    louder,
    noise_filters,
    pitch_of,
    silence,
)

pytestmark = pytest.mark.unit

HZ = np.linspace(0, 12_000, SPECTRUM_BINS)
FILTER_HZ = np.linspace(0, 12_000, FILTER_SAMPLES // 2 + 1)


def formants(hz: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Spectra:
    """Return log magnitudes of a spectrum with two formants and a tilt, `(len(hz), 1)`."""
    peaks = sum(3 * np.exp(-(((hz - centre) / width) ** 2)) for centre, width in ((600, 350), (1_700, 500)))
    return np.asarray(peaks - hz / 6_000, np.float32)[:, None]


def quiet(frames: int) -> Spectra:
    return np.full((SPECTRUM_BINS, frames), -20, np.float32)


def test_a_smooth_spectrum_comes_back_from_its_code() -> None:
    codes = encode(formants(HZ), formants(HZ) - 2, np.array([200], np.float32))
    # The filters carry the gains of a pulse train and of noise.
    harmonic = np.log(np.abs(harmonic_filters(codes)[0]) * 300)
    noise = np.log(np.abs(noise_filters(codes)[0]) * 30)
    assert np.abs(harmonic - formants(FILTER_HZ)[:, 0]).max() < 0.05
    assert np.abs(noise - formants(FILTER_HZ)[:, 0] + 2).mean() < 0.15


def test_a_filter_has_its_energy_at_the_beginning() -> None:
    codes = encode(formants(HZ), quiet(1), np.array([200], np.float32))
    response = np.fft.irfft(harmonic_filters(codes)[0])
    same_magnitude = np.fft.irfft(np.abs(harmonic_filters(codes)[0]))
    assert np.square(response[:128]).sum() > 0.95 * np.square(response).sum()
    assert np.square(same_magnitude[:128]).sum() < 0.8 * np.square(same_magnitude).sum()


def test_pitch_and_voicing_come_back_and_gaps_are_bridged() -> None:
    pitch = np.array([0, 100, 0, 0, 400, 30], np.float32)
    codes = encode(quiet(6), quiet(6), pitch)
    assert is_voiced(codes).tolist() == [False, True, False, False, True, False]
    np.testing.assert_allclose(pitch_of(codes), [100, 100, 158.74, 251.98, 400, 400], rtol=1e-4)


def test_pitch_stays_within_what_a_voice_can_do() -> None:
    codes = silence(2)
    codes[:, 0] = (-50, 50)
    np.testing.assert_allclose(pitch_of(codes), [60, 500])


def test_louder_frames_have_larger_filters_and_are_else_the_same() -> None:
    codes = encode(formants(HZ), formants(HZ), np.array([200], np.float32))
    twice = louder(codes, 2.0)
    np.testing.assert_allclose(harmonic_filters(twice), 2 * harmonic_filters(codes), rtol=1e-5)
    np.testing.assert_allclose(noise_filters(twice), 2 * noise_filters(codes), rtol=1e-5)
    assert twice[0, :2].tolist() == codes[0, :2].tolist()


def test_silence_is_at_the_floor() -> None:
    codes = silence(3)
    assert codes.shape == (3, FRAME_SIZE)
    np.testing.assert_allclose(np.log(np.abs(noise_filters(codes)) * 30), FLOOR, atol=1e-4)


def test_spectra_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"noise must have the shape \(601, 2\)"):
        encode(quiet(2), quiet(3), np.zeros(2, np.float32))
