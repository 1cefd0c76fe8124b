"""The renderer: 16 coded frames become the next 200 ms of sound, without a seam.

The sound runs `DELAY_SAMPLES` behind the frames: a frame's sound reaches half a window ahead, and the pitch glides
to that of the frame after it. State of one session; one thread at a time. Knows nothing of words or of a model.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.vocoder_frames import (
    FILTER_SAMPLES,
    FRAME_SAMPLES,
    FRAME_SIZE,
    TURN_FRAMES,
    Codes,
    harmonic_filters,
    is_voiced,
    noise_filters,
    pitch_of,
    silence,
)
from microturn.protocols import OUTPUT_RATE_HZ, Samples

TURN_SAMPLES = TURN_FRAMES * FRAME_SAMPLES
DELAY_SAMPLES = 2 * FRAME_SAMPLES
"""25 ms: the first frame's middle is heard this long after the beginning of the first block."""
_HIGHEST_HARMONIC_HZ = 11_000.0
_TAIL_SAMPLES = FILTER_SAMPLES - FRAME_SAMPLES
_NEAR_PULSE = 1e-6
_FADE = 0.5 - 0.5 * np.cos(np.pi * (np.arange(2 * FRAME_SAMPLES) + 0.5) / FRAME_SAMPLES)
"""Hann window over two frames; windows one frame apart add up to 1."""
_GLIDE = (np.arange(FRAME_SAMPLES) + 1.0) / FRAME_SAMPLES

Wave: TypeAlias = npt.NDArray[np.float64]


class Renderer:
    """Draws sound from frames. Every sample depends on the seed and on the frames so far alone, to the bit."""

    def __init__(self, seed: int = 0) -> None:
        """Begin in silence; `seed`, from 0 to 2**64 - 1, fixes the noise in the voice."""
        self._seed = seed
        self._block = 0
        self._cycle = 0.0
        self._last = silence(1)
        self._pulses = np.zeros(FRAME_SAMPLES)
        self._noise = np.zeros(FRAME_SAMPLES)
        self._tail = np.zeros(_TAIL_SAMPLES)

    def render(self, frames: Codes) -> Samples:
        """Return the next 200 ms of sound, `(4800,)` float32 in [-1, 1] at 24 kHz.

        Args:
            frames: `(16, 48)`. A frame with a number that is not finite is silence.

        Raises:
            ValueError: the shape is another one.
        """
        if frames.shape != (TURN_FRAMES, FRAME_SIZE):
            raise ValueError(f"frames must have the shape {(TURN_FRAMES, FRAME_SIZE)}, got {frames.shape}")
        known = np.concatenate([self._last, _mended(frames)])
        pulses = np.concatenate([self._pulses, self._pulse_train(known)])
        noise = np.concatenate([self._noise, self._white_noise()])
        self._last, self._pulses, self._noise = known[-1:], pulses[-FRAME_SAMPLES:], noise[-FRAME_SAMPLES:]
        self._block += 1
        return self._overlapped(_filtered(known[:-1], pulses, noise))

    def _pulse_train(self, known: Codes) -> Wave:
        """Every harmonic below 11 kHz with amplitude 1, from the last frame's middle on, `(4800,)`.

        `sum of cos(h t) for h from 1 to H = sin((H + 1/2) t) / (2 sin(t / 2)) - 1/2`.
        """
        pitch = _glided(pitch_of(known))
        gain = _glided(is_voiced(known).astype(np.float64))
        phase = (self._cycle + np.cumsum(pitch) / OUTPUT_RATE_HZ) % 1.0
        self._cycle = float(phase[-1])
        angle = 2 * np.pi * phase
        order = np.floor(_HIGHEST_HARMONIC_HZ / pitch) + 0.5
        below = 2 * np.sin(angle / 2)
        at_pulse = np.abs(below) < _NEAR_PULSE  # where the quotient tends to its limit
        train = np.where(at_pulse, order, np.sin(order * angle) / np.where(at_pulse, 1.0, below))
        return np.asarray((train - 0.5) * gain)

    def _white_noise(self) -> Wave:
        """Uniform noise of variance 1, decided by the seed and the place in the session, `(4800,)`.

        Philox is counter-based, and its integers, unlike NumPy's normal numbers, are the same in every release.
        """
        counter = self._block * (TURN_SAMPLES // 4)  # four integers for each count
        integers = np.random.Philox(key=self._seed, counter=counter).random_raw(TURN_SAMPLES)
        return np.asarray(((integers >> np.uint64(11)) * 2.0**-52 - 1.0) * np.sqrt(3.0))

    def _overlapped(self, windows: Wave) -> Samples:
        """Add the windows, in the order of frames, to what earlier ones left, and take the 200 ms that are done."""
        sound = np.zeros(TURN_SAMPLES + _TAIL_SAMPLES)
        sound[:_TAIL_SAMPLES] = self._tail
        for index, window in enumerate(windows):
            sound[index * FRAME_SAMPLES : index * FRAME_SAMPLES + FILTER_SAMPLES] += window
        self._tail = sound[TURN_SAMPLES:]
        return np.clip(sound[:TURN_SAMPLES], -1.0, 1.0).astype(np.float32)


def _mended(frames: Codes) -> Codes:
    whole = np.isfinite(frames).all(1, keepdims=True)
    return np.where(whole, frames, silence(1)).astype(np.float32)


def _glided(values: Wave) -> Wave:
    """Straight lines from each frame's value to the next one's, `(frames - 1) * 300` samples."""
    return np.asarray((values[:-1, None] + np.diff(values)[:, None] * _GLIDE).reshape(-1))


def _filtered(frames: Codes, pulses: Wave, noise: Wave) -> Wave:
    """Windows of both sources around each frame, through its filters, `(16, 1024)`."""
    spectrum = np.fft.rfft(_windows(pulses), FILTER_SAMPLES) * harmonic_filters(frames)
    spectrum += np.fft.rfft(_windows(noise), FILTER_SAMPLES) * noise_filters(frames)
    return np.asarray(np.fft.irfft(spectrum, FILTER_SAMPLES))


def _windows(source: Wave) -> Wave:
    return np.lib.stride_tricks.sliding_window_view(source, 2 * FRAME_SAMPLES)[::FRAME_SAMPLES] * _FADE
