"""The way of sound from a mouth to the samples: a room, and a microphone that hears only some frequencies.

Both are linear and become one filter whose direct sound lies at a known place, so that words stay where they were.
Knows nothing of noise. Everything follows from numbers and seeds.

Source of the room's shape: the usual statistical model of reverberation (early reflections, then noise that decays by
60 dB in the reverberation time); the ranges are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microturn.protocols import INPUT_RATE_HZ, Samples

LONGEST_TAIL_S = 0.5
"""Later reflections are left out; at the longest reverberation time they are 37 dB below the first ones."""
_EARLY_MS = (2.0, 40.0)
_LATE_FROM_S = 0.01
_FILTER_TAPS = 511
"""Length of a microphone's filter; its middle is its delay."""
_BLOCK = 1 << 15
"""Samples of one Fourier transform of a long sound."""
_EDGE_OCTAVES = 0.35
"""Width of a microphone's edges."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the walls add to a sound."""

    reverberation_s: float
    """Time in which the sound decays by 60 dB; 0 is no room at all."""
    direct_db: float
    """Energy of the direct sound over that of the reflections."""
    seed: int

    def response(self) -> Samples:
        """Return what is heard of one click: its direct sound is 1 at sample 0; shape `(S,)`, S at most 8,000."""
        if self.reverberation_s <= 0:
            return np.ones(1, np.float32)
        generator = np.random.default_rng(self.seed)
        length = int(min(self.reverberation_s, LONGEST_TAIL_S) * INPUT_RATE_HZ) + 1
        time_s = np.arange(length) / INPUT_RATE_HZ
        decay = 10 ** (-3 * time_s / self.reverberation_s)
        reflections = generator.standard_normal(length) * decay * (time_s >= _LATE_FROM_S)
        _add_early(reflections, decay, generator)
        reflections[0] = 0.0
        energy = float(np.sum(np.square(reflections)))
        if energy > 0:
            reflections *= 10 ** (-self.direct_db / 20) / np.sqrt(energy)
        reflections[0] = 1.0
        return reflections.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Microphone:
    """Which frequencies are heard; a telephone hears 300 to 3,400 Hz."""

    low_hz: float
    high_hz: float
    """From 8,000 Hz on nothing is cut."""

    def taps(self) -> Samples:
        """Return a filter of linear phase, shape `(511,)`, with its direct sound at sample 255."""
        frequencies = np.fft.rfftfreq(_FILTER_TAPS + 1, 1 / INPUT_RATE_HZ)
        octaves = np.log2(np.maximum(frequencies, 1.0))
        magnitude = _edge((octaves - np.log2(max(self.low_hz, 1.0))) / _EDGE_OCTAVES)
        if self.high_hz < INPUT_RATE_HZ / 2:
            magnitude = magnitude * _edge((np.log2(self.high_hz) - octaves) / _EDGE_OCTAVES)
        impulse = np.fft.fftshift(np.fft.irfft(magnitude, _FILTER_TAPS + 1))[1:]
        return np.asarray(impulse * np.hanning(_FILTER_TAPS), np.float32)


@dataclass(frozen=True, slots=True)
class AcousticPath:
    """A room and a microphone as one filter."""

    taps: Samples
    delay_samples: int
    """Where the direct sound lies in `taps`."""

    @classmethod
    def through(cls, room: Room, microphone: Microphone) -> AcousticPath:
        """Return the path through a room into a microphone."""
        return cls(np.convolve(room.response(), microphone.taps()), _FILTER_TAPS // 2)

    def heard(self, audio: Samples) -> Samples:
        """Return what arrives, as long as `audio` and not delayed; what still sounds after its end is cut."""
        return _convolved(audio, self.taps)[self.delay_samples :][: audio.size]


def _add_early(
    reflections: npt.NDArray[np.float64],
    decay: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> None:
    count = int(generator.integers(4, 12))
    places = (generator.uniform(*_EARLY_MS, count) / 1000 * INPUT_RATE_HZ).astype(np.int64)
    places = places[places < reflections.size]
    strength = generator.uniform(2.0, 8.0, places.size) * generator.choice((-1.0, 1.0), places.size)
    np.add.at(reflections, places, strength * decay[places])


def _edge(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rise smoothly from 0 to 1 around a distance of 0."""
    return np.asarray(0.5 + 0.5 * np.sin(np.pi / 2 * np.clip(distance, -1.0, 1.0)))


def _convolved(audio: Samples, taps: Samples) -> Samples:
    """Convolve by overlap and add: `(S,)` and `(K,)` to `(S + K - 1,)`, in time proportional to S."""
    if audio.size == 0:
        return np.zeros(taps.size - 1, np.float32)
    size = _BLOCK
    while size < 2 * taps.size:
        size *= 2
    step = size - taps.size + 1
    blocks = np.pad(audio, (0, -audio.size % step)).reshape(-1, step)
    spectrum = np.fft.rfft(taps, size)
    pieces = np.fft.irfft(np.fft.rfft(blocks, size, axis=1) * spectrum, size, axis=1)
    result = np.zeros(blocks.shape[0] * step + taps.size - 1, np.float32)
    for place, piece in enumerate(pieces):
        result[place * step : place * step + size] += piece
    return result[: audio.size + taps.size - 1]
