"""How a voice is made to sound like another one, by editing the frames that it is drawn from.

Knows the frames of the vocoder and nothing of text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bins: TypeAlias = npt.NDArray[np.float32]
"""A value for each frequency bin and frame, shape `(601, F)`, 0 to 12 kHz, 80 frames a second."""


@dataclass(frozen=True, slots=True)
class VoiceStyle:
    """A pseudo-speaker made from one voice. The defaults leave the voice as it is."""

    pitch: float = 1.0
    """Factor of the fundamental frequency; 0.55 is a low male pitch, 1.4 a child's."""
    formant: float = 1.0
    """Factor of the formants' frequencies: below 1 a longer vocal tract, 0.8 to 1.2."""
    pitch_range: float = 1.0
    """Factor of how far the melody moves from its middle."""
    breath: float = 0.0
    """Added to the natural logarithm of the noise's magnitude, -0.7 to 0.7."""
    speed: float = 1.0
    """Pace of speaking, 0.5 to 2."""


@dataclass(frozen=True, slots=True)
class VoiceFrames:
    """What a sentence is drawn from: a harmonic, a noise and a free-phase branch."""

    harmonic: Bins
    """Natural logarithm of the magnitude of the voiced sound."""
    harmonic_phase: Bins
    noise: Bins
    """Natural logarithm of the magnitude of the noise."""
    free: Bins
    """Natural logarithm of the magnitude of the free-phase branch."""
    free_phase: Bins
    f0_hz: npt.NDArray[np.float32]
    """Fundamental frequency, shape `(F,)`; low values stand for unvoiced frames."""


def styled(frames: VoiceFrames, style: VoiceStyle) -> VoiceFrames:
    """Return the frames as the style's speaker would say them; `speed` is applied earlier, by the model."""
    f0 = frames.f0_hz
    if style.pitch_range != 1.0 and np.any(voiced := f0 > _UNVOICED_HZ):
        middle = float(np.median(f0[voiced]))
        moved = middle * (np.maximum(f0, 1.0) / middle) ** np.float32(style.pitch_range)
        f0 = np.where(voiced, moved, f0)
    frames = replace(
        frames, f0_hz=(f0 * style.pitch).astype(np.float32), noise=frames.noise + np.float32(style.breath)
    )
    if style.formant == 1.0:
        return frames
    return replace(
        frames,
        harmonic=_warped(frames.harmonic, style.formant),
        harmonic_phase=_warped(frames.harmonic_phase, style.formant),
        noise=_warped(frames.noise, style.formant),
        free=_warped(frames.free, style.formant),
    )


_UNVOICED_HZ = 40.0


def _warped(bins: Bins, factor: float) -> Bins:
    """Stretch the frequency axis by `factor`; what lies beyond the last bin repeats it."""
    last = bins.shape[0] - 1
    source = np.minimum(np.arange(last + 1) / factor, last)
    low = np.floor(source).astype(np.int64)
    high = np.minimum(low + 1, last)
    weight = (source - low).astype(np.float32)[:, None]
    return np.asarray(bins[low] * (1 - weight) + bins[high] * weight, np.float32)
