"""The log-mel spectrogram that models of the Whisper family look at.

Knows nothing of those models.

Source: Radford et al. 2022 (arXiv 2212.04356), section 2.2: 25 ms Hann windows every 10 ms, 80 mel bins of Slaney's
scale and area norm (Slaney 1998, Auditory Toolbox), log10 limited to 8 below the maximum, scaled to about -1 to 1.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from microturn.protocols import INPUT_RATE_HZ, Samples

FFT_SAMPLES = 400
HOP_SAMPLES = 160
MEL_BINS = 80
_LINEAR_HZ_PER_MEL = 200 / 3
_BREAK_HZ, _BREAK_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27

LogMel: TypeAlias = npt.NDArray[np.float32]
"""Shape `(80, F)`."""


def log_mel(audio: Samples) -> LogMel:
    """Return the spectrogram of 16 kHz sound of shape `(S,)`, with S // 160 frames; about 4 ms for 8 s.

    The sound is mirrored at both ends by half a window.
    """
    padded = np.pad(audio.astype(np.float32), FFT_SAMPLES // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES][
        : audio.size // HOP_SAMPLES
    ]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    power = np.square(np.abs(spectrum)).astype(np.float32)  # (F, 201)
    energy = _filters() @ power.T  # (80, F)
    decades = np.log10(np.maximum(energy, 1e-10))
    limited = np.maximum(decades, decades.max(initial=-10.0) - 8)
    return np.asarray((limited + 4) / 4, np.float32)


@cache
def _window() -> Samples:
    """A periodic Hann window."""
    turn = 2 * np.pi * np.arange(FFT_SAMPLES) / FFT_SAMPLES
    return np.asarray(0.5 - 0.5 * np.cos(turn), np.float32)


@cache
def _filters() -> npt.NDArray[np.float32]:
    """Triangles over the frequency bins, each of area 1 in Hz, shape `(80, 201)`."""
    top = INPUT_RATE_HZ / 2
    corners = _hertz(np.linspace(0, _mel(top), MEL_BINS + 2))
    bins = np.linspace(0, top, FFT_SAMPLES // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (corners[2:] - corners[:-2]))[:, None], np.float32)


def _mel(hertz: float) -> float:
    if hertz < _BREAK_HZ:
        return hertz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + float(np.log(hertz / _BREAK_HZ) / _LOG_STEP)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, logarithmic)
