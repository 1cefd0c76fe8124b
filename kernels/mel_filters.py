"""The constants of dMel: window, mel filters and the edges between levels, the same for every device.

dMel ("dMel: Speech Tokenization made Simple", Bai et al., 2024) rounds a log-mel spectrogram to a few levels per
filter, which stand in for tokens. The constants are those of the Inkling models in transformers 5.23; a test
compares them.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 800
"""50 ms: one frame, and so one token, each."""
WINDOW_SAMPLES = 1600
"""Of the window and of the Fourier transform."""
FREQUENCIES = WINDOW_SAMPLES // 2 + 1
MEL_BINS = 80
LEVELS = 16

POWER_FLOOR = 1e-10
"""Smallest power (square of a magnitude) of one frequency."""
MEL_FLOOR = 1e-10
"""Smallest energy of one filter, before the logarithm."""
LOG10_MIN = -7.0
LOG10_MAX = 2.0

LOUDEST = 1e6
"""Samples are held within +-LOUDEST, so that no power overflows; our choice, far beyond any sound in [-1, 1]."""

_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ_PER_MEL
_MELS_PER_LOG = 27.0 / np.log(6.4)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear to 1,000 Hz, logarithmic above."""
    above = _KNEE_HZ * np.exp((mel - _KNEE_MEL) / _MELS_PER_LOG)
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, above)


@cache
def mel_filters_float64() -> Tensor:
    """Triangular filters of equal area, `(80, 801)` float64: filter by frequency of the transform."""
    top_mel = _KNEE_MEL + np.log(SAMPLE_RATE_HZ / 2 / _KNEE_HZ) * _MELS_PER_LOG
    corners = _mel_to_hz(np.linspace(0.0, top_mel, MEL_BINS + 2))
    frequencies = np.linspace(0.0, SAMPLE_RATE_HZ / 2, FREQUENCIES)
    lower, centre, upper = (corners[i : i + MEL_BINS, None] for i in range(3))
    rising = (frequencies - lower) / (centre - lower)
    falling = (upper - frequencies) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return torch.from_numpy(triangles * (2.0 / (upper - lower)))


@cache
def mel_filters() -> Tensor:
    """`mel_filters_float64` rounded to float32."""
    return mel_filters_float64().float()


@cache
def hann_window() -> Tensor:
    """The periodic Hann window, `(1600,)` float32."""
    return torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float32)


@cache
def level_centres() -> Tensor:
    """The log10 energies that the levels stand for, `(16,)` float32, evenly spaced from -7 to 2."""
    return torch.linspace(LOG10_MIN, LOG10_MAX, LEVELS, dtype=torch.float64).float()


@cache
def level_edges() -> Tensor:
    """The smallest float32 number of each level from 1 to 15, `(15,)`: a level is the number of edges at or below.

    The nearest centre is meant with distances rounded to float32 and ties going to the lower level, as
    `argmin(abs(x - centres))` gives it. The upper distance only shrinks and the lower only grows with x, so the
    first number that is nearer to the upper centre is found by stepping from the middle.
    """
    centres = level_centres()
    edges = [_first_nearer(lower, upper) for lower, upper in pairwise(centres)]
    return torch.stack(edges)


def _first_nearer(lower: Tensor, upper: Tensor) -> Tensor:
    """The smallest float32 number that lies nearer to `upper` than to `lower`, by rounded distances."""
    edge = (lower + upper) / 2
    while upper - edge < edge - lower:
        edge = torch.nextafter(edge, lower)
    while not upper - edge < edge - lower:
        edge = torch.nextafter(edge, upper)
    return edge
