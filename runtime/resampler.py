"""Sample-rate conversion of sound that arrives in blocks, equal to converting the whole of it at once.

Knows nothing of files and devices. Converting between two equal rates needs no optional package.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from microturn.protocols import SILENCE, Samples
from microturn.runtime._errors import MissingExtraError

_ZERO_CROSSINGS = 10
_KAISER_BETA = 5.0
"""Length and window of the low-pass filter. Source: the defaults of `scipy.signal.resample_poly`."""


class Resampler:
    """Converts one stream of mono sound. Owned by one thread; `push` in order, then `finish` once.

    What it returns, put together, is what `scipy.signal.resample_poly` gives for the whole stream, to the rounding
    of float32: the output is late by half the filter (some 10 samples of the lower rate), never shifted.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        if from_hz <= 0 or to_hz <= 0:
            raise ValueError(f"from_hz and to_hz must be positive, got {from_hz!r} and {to_hz!r}")
        divisor = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // divisor, from_hz // divisor
        self._half_length = _ZERO_CROSSINGS * max(self._up, self._down)
        self._convert = _identity if self._up == self._down else _polyphase(self._up, self._down)
        self._held: Samples = SILENCE
        self._held_start = 0
        """Number of the first held input sample; a multiple of `_down`, so that the output grid stays in phase."""
        self._given = 0
        """Output samples returned so far."""

    @property
    def is_identity(self) -> bool:
        """Whether the two rates are equal, so that sound passes through untouched."""
        return self._up == self._down

    def push(self, audio: Samples) -> Samples:
        """Take in the next samples, shape `(S,)`; return the output that no later sample can change."""
        if self.is_identity:
            return audio
        self._held = np.concatenate([self._held, audio])
        end = self._held_start + len(self._held)
        settled = ((end - 1) * self._up - self._half_length) // self._down + 1
        return self._give(settled)

    def finish(self) -> Samples:
        """Return what is left, as if silence followed."""
        if self.is_identity:
            return SILENCE
        end = self._held_start + len(self._held)
        return self._give(-(-end * self._up // self._down))

    def _give(self, up_to: int) -> Samples:
        """Return the outputs from `_given` to `up_to` and let go of the input that they alone needed."""
        if up_to <= self._given:
            return SILENCE
        origin = self._held_start // self._down * self._up
        out = self._convert(self._held)[self._given - origin : up_to - origin]
        self._given = up_to
        oldest_needed = max(0, (self._given * self._down - self._half_length) // self._up)
        start = max(self._held_start, oldest_needed // self._down * self._down)
        self._held = self._held[start - self._held_start :]
        self._held_start = start
        return out


def _identity(audio: Samples) -> Samples:
    return audio


def _polyphase(up: int, down: int) -> Callable[[Samples], Samples]:
    """The whole-signal conversion with its filter designed once."""
    try:
        from scipy import signal
    except ImportError as error:
        raise MissingExtraError("scipy", "speech", "converting between sample rates") from error
    widest = max(up, down)
    taps: npt.NDArray[np.float32] = signal.firwin(
        2 * _ZERO_CROSSINGS * widest + 1, 1 / widest, window=("kaiser", _KAISER_BETA)
    ).astype(np.float32)

    def convert(audio: Samples) -> Samples:
        # The stubs do not know that the window may be an array of taps.
        out = signal.resample_poly(audio, up, down, window=taps)  # type: ignore[call-overload]  # see above
        return np.asarray(out, np.float32)

    return convert
