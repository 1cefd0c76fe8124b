"""Sounds that nobody means to be heard, made from numbers alone, and how loud they are beside speech.

Each function takes a generator and gives equal samples for equal draws. Knows nothing of rooms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from microturn.protocols import INPUT_RATE_HZ, Samples

_LOWEST_HZ = 20.0
"""Coloured noise is flat below it."""
_CLICK_S = 0.02
_MU = 255.0
"""Compression of the telephone's coding. Source: ITU-T G.711."""


def coloured_noise(generator: np.random.Generator, samples: int, slope: float) -> Samples:
    """Return noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown.

    Root mean square 1, shape `(samples,)`; about 0.3 s for an hour.
    """
    if samples == 0:
        return np.zeros(0, np.float32)
    size = 1 << (samples - 1).bit_length() if samples > 1 else 2
    spectrum = np.fft.rfft(generator.standard_normal(size, dtype=np.float32))
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / INPUT_RATE_HZ), _LOWEST_HZ)
    spectrum *= (frequencies ** (-slope / 2)).astype(np.float32)
    return _at_level_one(np.fft.irfft(spectrum, size)[:samples])


def hum(generator: np.random.Generator, samples: int) -> Samples:
    """Return the hum of the mains, 50 or 60 Hz with up to 12 overtones; root mean square 1, shape `(samples,)`."""
    base_hz = float(generator.choice((50.0, 60.0))) * float(generator.uniform(0.999, 1.001))
    overtones = int(generator.integers(2, 13))
    strength = generator.uniform(0.2, 1.0, overtones) / np.arange(1, overtones + 1)
    phase = generator.uniform(0, 2 * np.pi, overtones)
    turns = 2 * np.pi * base_hz * np.arange(samples) / INPUT_RATE_HZ
    total = np.zeros(samples)
    for place in range(overtones):
        total += strength[place] * np.sin((place + 1) * turns + phase[place])
    return _at_level_one(total)


def clicks(generator: np.random.Generator, samples: int, per_second: float) -> Samples:
    """Return short knocks at random times, each of its own pitch and decay; the largest peak is 1."""
    audio = np.zeros(samples, np.float32)
    length = int(_CLICK_S * INPUT_RATE_HZ)
    time_s = np.arange(length) / INPUT_RATE_HZ
    for _ in range(generator.poisson(per_second * samples / INPUT_RATE_HZ)):
        place = int(generator.integers(max(samples, 1)))
        decay = np.exp(-time_s / float(generator.uniform(0.0005, 0.005)))
        knock = np.sin(2 * np.pi * float(generator.uniform(200, 6000)) * time_s) * decay
        piece = (float(generator.uniform(0.1, 1.0)) * knock)[: samples - place]
        audio[place : place + piece.size] += piece.astype(np.float32)
    peak = float(np.max(np.abs(audio), initial=0.0))
    return audio / np.float32(peak) if peak > 0 else audio


def babble(
    generator: np.random.Generator, samples: int, clips: Sequence[Samples], voices: int = 4
) -> Samples:
    """Return several people talking at once, from clips in random order; root mean square 1, shape `(samples,)`.

    Raises:
        ValueError: `clips` is empty, or holds nothing but empty clips.
    """
    if not any(clip.size for clip in clips):
        raise ValueError("clips must hold sound, got none")
    total = np.zeros(samples, np.float32)
    for _ in range(voices):
        total += _row_of_clips(generator, samples, clips) * np.float32(generator.uniform(0.4, 1.0))
    return _at_level_one(total)


def mu_law(audio: Samples) -> Samples:
    """Return the sound after a telephone's coding with 8 bits a sample, mu-law; loud sound is clipped to [-1, 1]."""
    limited = np.clip(audio, -1.0, 1.0)
    packed = np.sign(limited) * np.log1p(_MU * np.abs(limited)) / np.log1p(_MU)
    rounded = np.round(packed * 127) / 127
    return np.asarray(np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(_MU)) / _MU, np.float32)


def _row_of_clips(generator: np.random.Generator, samples: int, clips: Sequence[Samples]) -> Samples:
    """Return clips one after another, from somewhere inside the first one."""
    pieces: list[Samples] = []
    length = 0
    while length < samples:
        clip = clips[int(generator.integers(len(clips)))]
        clip = clip[int(generator.integers(clip.size // 2 + 1)) :] if not pieces else clip
        pieces.append(clip)
        length += clip.size
    return np.concatenate(pieces)[:samples] if pieces else np.zeros(0, np.float32)


def _at_level_one(audio: npt.NDArray[np.floating]) -> Samples:
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0
    return np.asarray(audio / level if level > 0 else audio, np.float32)
