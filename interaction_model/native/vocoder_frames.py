"""The code of the voice: 48 numbers for each frame of 12.5 ms, and what a frame's numbers mean.

A frame is drawn from a pulse train and from noise, each through a filter. The filters' magnitudes are smooth curves
over a mel axis (cosine series, as in a mel cepstrum), and their phases are the minimum phases that follow from the
magnitudes. So the logarithm of each filter is linear in the code. Knows numpy only, nothing of text or of a model.

Source of the idea: mel-generalised cepstra with minimum-phase synthesis (Tokuda et al., 1994; WORLD, Morise et al.,
2016). The sizes are our choice.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FRAME_SAMPLES = 300
"""Samples from one frame to the next, 12.5 ms at 24 kHz."""
TURN_FRAMES = 16
"""Frames of one micro-turn."""
HARMONIC_SIZE = 30
"""Numbers for the filter of the pulse train."""
NOISE_SIZE = 16
"""Numbers for the filter of the noise."""
FRAME_SIZE = 2 + HARMONIC_SIZE + NOISE_SIZE
"""Numbers of a frame: log pitch, voicing, harmonic filter, noise filter."""
SPECTRUM_BINS = 601
"""Frequencies of the spectra that are coded, 0 to 12 kHz."""
FILTER_SAMPLES = 1024
"""Length of the transform in which a filter is applied."""
FLOOR = -6.0
"""Log magnitude of silence; lower ones are raised to it. Noise at it has -82 dBFS."""
LOWEST_PITCH_HZ = 60.0
"""Frames below it are unvoiced."""
HIGHEST_PITCH_HZ = 500.0
MIDDLE_PITCH_HZ = 190.0
"""Pitch written into the frames of a stretch that has no voiced frame at all."""

Codes: TypeAlias = npt.NDArray[np.float32]
"""Shape `(F, 48)`: log of the pitch in Hz, voicing from 0 to 1, harmonic filter, noise filter."""
Spectra: TypeAlias = npt.NDArray[np.float32]
"""Natural log magnitudes, shape `(601, F)`."""
Filters: TypeAlias = npt.NDArray[np.complex128]
"""Frequency responses, shape `(F, 513)`."""

_PULSE_GAIN = 1 / 300
"""A spectrum's magnitude of a cosine over that cosine's amplitude, inverted. Source: hibari's window and hop."""
_NOISE_GAIN = 1 / 30
"""The same for noise of variance 1: measured, between the values for independent and for consistent frames."""


def encode(harmonic: Spectra, noise: Spectra, pitch_hz: npt.NDArray[np.float32]) -> Codes:
    """Return the code of frames that are given as spectra, 80 frames a second.

    Args:
        harmonic: natural log magnitude of the voiced sound.
        noise: natural log magnitude of all sound that is not.
        pitch_hz: `(F,)`, below `LOWEST_PITCH_HZ` where unvoiced.

    Raises:
        ValueError: the shapes do not fit.
    """
    frames = pitch_hz.size
    for name, spectra in (("harmonic", harmonic), ("noise", noise)):
        if spectra.shape != (SPECTRUM_BINS, frames):
            raise ValueError(f"{name} must have the shape {(SPECTRUM_BINS, frames)}, got {spectra.shape}")
    codes = np.empty((frames, FRAME_SIZE), np.float32)
    codes[:, 1] = voiced = pitch_hz >= LOWEST_PITCH_HZ
    codes[:, 0] = _filled(pitch_hz, voiced)
    codes[:, 2 : 2 + HARMONIC_SIZE] = np.maximum(harmonic, FLOOR).T @ _fit(HARMONIC_SIZE)
    codes[:, 2 + HARMONIC_SIZE :] = np.maximum(noise, FLOOR).T @ _fit(NOISE_SIZE)
    return codes


def silence(frames: int) -> Codes:
    """Return the code of silence, `(frames, 48)`."""
    quiet = np.full((SPECTRUM_BINS, frames), FLOOR, np.float32)
    return encode(quiet, quiet, np.zeros(frames, np.float32))


def louder(codes: Codes, gain: float) -> Codes:
    """Return the frames with all their sound multiplied by `gain`, which is above 0."""
    result = codes.copy()
    result[:, [2, 2 + HARMONIC_SIZE]] += np.float32(np.log(gain))  # the first number of a filter is its mean
    return result


def harmonic_filters(codes: Codes) -> Filters:
    """Return what the pulse train, harmonics of amplitude 1, is filtered with."""
    return _filters(codes[:, 2 : 2 + HARMONIC_SIZE], HARMONIC_SIZE) * _PULSE_GAIN


def noise_filters(codes: Codes) -> Filters:
    """Return what white noise of variance 1 is filtered with."""
    return _filters(codes[:, 2 + HARMONIC_SIZE :], NOISE_SIZE) * _NOISE_GAIN


def pitch_of(codes: Codes) -> npt.NDArray[np.float64]:
    """Return the pitch in Hz, `(F,)`, within what a voice can do."""
    bounds = np.log((LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ))
    return np.asarray(np.exp(np.clip(codes[:, 0].astype(np.float64), *bounds)))


def is_voiced(codes: Codes) -> npt.NDArray[np.bool_]:
    """Return which frames have a pulse train, `(F,)`."""
    return np.asarray(codes[:, 1] >= 0.5)


def _filled(pitch_hz: npt.NDArray[np.float32], voiced: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Log pitch with straight lines where there is none, so that a model has no jumps to learn."""
    if not voiced.any():
        return np.full(pitch_hz.size, np.log(MIDDLE_PITCH_HZ))
    at = np.arange(pitch_hz.size)
    return np.interp(at, at[voiced], np.log(pitch_hz[voiced].astype(np.float64)))


def _filters(numbers: npt.NDArray[np.float32], size: int) -> Filters:
    """Exponentials of the series; a magnitude that no voice has is cut, as a model may ask for it.

    Two real products and not a complex one, for which NumPy's BLAS shares the 16 frames of a micro-turn out among
    threads that spin: beside other work a block of sound then took 13 ms in place of 1.
    """
    magnitudes, phases = _responses(size)
    wide = numbers.astype(np.float64)
    logarithm = np.empty((len(wide), magnitudes.shape[1]), np.complex128)
    logarithm.real = np.minimum(wide @ magnitudes, _LOUDEST)
    logarithm.imag = wide @ phases
    return np.asarray(np.exp(logarithm))


_LOUDEST = 8.0


def _series(bins: int, size: int) -> npt.NDArray[np.float64]:
    """Cosines over the mel axis at `bins` frequencies from 0 to 12 kHz, `(size, bins)`."""
    mel = np.log1p(np.linspace(0, 12_000, bins) / 700)  # O'Shaughnessy's mel scale, up to a factor
    return np.asarray(np.cos(np.pi * np.arange(size)[:, None] * mel / mel[-1]))


@cache
def _fit(size: int) -> npt.NDArray[np.float64]:
    """Least squares, weighted as evenly over mel as the series is, `(601, size)`."""
    series = _series(SPECTRUM_BINS, size)
    weight = 1 / (1 + np.linspace(0, 12_000, SPECTRUM_BINS) / 700)
    return np.asarray(np.linalg.solve(series * weight @ series.T, series * weight).T)


@cache
def _responses(size: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log magnitude and minimum phase of each cosine, `(size, 513)` each.

    Folding the real cepstrum onto its positive side gives the minimum phase (Oppenheim and Schafer). It is linear,
    so the phases of a sum of cosines are the sum of theirs.
    """
    cepstra = np.fft.irfft(_series(FILTER_SAMPLES // 2 + 1, size), FILTER_SAMPLES)
    cepstra[:, 1 : FILTER_SAMPLES // 2] *= 2
    cepstra[:, FILTER_SAMPLES // 2 + 1 :] = 0
    responses = np.fft.rfft(cepstra)
    return np.ascontiguousarray(responses.real), np.ascontiguousarray(responses.imag)
