"""Where a session's sound comes in: bounded, tolerant of jitter, read only by the beat.

A `Source` gives what it has, at once. `Ingress` is the source for sound that is pushed from elsewhere (a
microphone's thread, a socket); files have their own in `audio_file.py`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

import numpy as np

from microturn.protocols import INPUT_RATE_HZ, Samples


class Source(Protocol):
    """Gives sound at 16 kHz when the beat asks for it."""

    def take(self, samples: int) -> Samples:
        """Return exactly `samples` samples, silence where there is nothing; never waits."""

    @property
    def ended(self) -> bool:
        """Whether nothing but silence will come."""


class Ingress:
    """A bounded buffer between whoever hears and the beat. Safe to push to from any thread.

    Overflow policy: the oldest sound is dropped and counted, because a listener that is seconds behind is worse
    than one that missed a word. Underrun policy: silence, counted.
    """

    def __init__(self, limit_s: float = 4.0) -> None:
        self._limit = int(limit_s * INPUT_RATE_HZ)
        self._chunks: deque[Samples] = deque()
        self._size = 0
        self._closed = False
        self._lock = threading.Lock()
        self.dropped_samples = 0
        """Samples lost to overflow."""
        self.missing_samples = 0
        """Samples of silence given because nothing had arrived in time."""

    def push(self, audio: Samples) -> None:
        """Add sound, shape `(S,)` at 16 kHz. Non-finite values become silence."""
        clean = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        with self._lock:
            self._chunks.append(clean)
            self._size += len(clean)
            excess = self._size - self._limit
            while excess > 0:
                oldest = self._chunks.popleft()
                dropped = min(excess, len(oldest))
                if dropped < len(oldest):
                    self._chunks.appendleft(oldest[dropped:])
                self._size -= dropped
                self.dropped_samples += dropped
                excess -= dropped

    def take(self, samples: int) -> Samples:
        """Return the oldest `samples` samples, padded with silence at the end."""
        out = np.zeros(samples, np.float32)
        filled = 0
        with self._lock:
            while filled < samples and self._chunks:
                chunk = self._chunks.popleft()
                part = chunk[: samples - filled]
                out[filled : filled + len(part)] = part
                filled += len(part)
                if len(part) < len(chunk):
                    self._chunks.appendleft(chunk[len(part) :])
            self._size -= filled
            if not self._closed:
                self.missing_samples += samples - filled
        return out

    def close(self) -> None:
        """Say that no more sound will be pushed."""
        with self._lock:
            self._closed = True

    @property
    def ended(self) -> bool:
        """Whether it is closed and empty."""
        with self._lock:
            return self._closed and self._size == 0
