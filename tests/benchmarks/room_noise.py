"""The sound of a quiet room: seeded noise that stands under every recording, so that no silence is digital.

Its spectrum falls with frequency as that of a room with a fan far away. No echo is added. This module knows nothing
of speech.
"""

from __future__ import annotations

import hashlib

import numpy as np
from kokoro_voice import Samples
from spoken_line import SAMPLE_RATE_HZ

_FLAT_BELOW_HZ = 100.0
"""Below this the spectrum does not rise further, so that the noise has no rumble. Our choice."""


def room_noise(samples: int, seed: str, level_dbfs: float) -> Samples:
    """Return noise whose power falls as 1/f, equal for equal arguments.

    Args:
        samples: Length at `SAMPLE_RATE_HZ`.
        seed: Any name; each recording has its own.
        level_dbfs: Root mean square relative to full scale, in decibels.
    """
    digest = hashlib.sha256(seed.encode()).digest()
    white = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(samples)
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    coloured = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.maximum(frequency, _FLAT_BELOW_HZ)), samples)
    scaled: Samples = (coloured * (10 ** (level_dbfs / 20) / np.sqrt(np.mean(coloured**2)))).astype(
        np.float32
    )
    return scaled
