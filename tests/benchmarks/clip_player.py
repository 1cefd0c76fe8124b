"""Plays labelled clips to a session, one after another, and remembers when."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from turn_set import Clip, read_sound

from microturn.protocols import INPUT_RATE_HZ, SILENCE, Samples

ROOM = 10 ** (-60 / 20)
"""Standard deviation of the noise between clips: -60 dBFS."""


@dataclass(frozen=True, slots=True)
class Played:
    """A clip, and the session time at which its file began."""

    clip: Clip
    start_ms: float

    @property
    def begin_ms(self) -> float:
        """Where the speech begins."""
        return self.start_ms + self.clip.speech_start_ms

    @property
    def end_ms(self) -> float:
        """Where the speech ends."""
        return self.start_ms + self.clip.speech_end_ms


@dataclass(slots=True)
class ClipPlayer:
    """A `Source`: the clips when they are told to play, room noise in between."""

    folder: Path
    played: list[Played] = field(default_factory=list)
    ended: bool = False
    _waiting: Samples = field(default_factory=lambda: SILENCE)
    _taken: int = 0
    _noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @property
    def is_playing(self) -> bool:
        """Whether a clip has not come to its end."""
        return len(self._waiting) > 0

    def play(self, clip: Clip, *, after_ms: int = 0) -> None:
        """Begin a clip with the next sample, or some milliseconds after it."""
        shift = np.zeros(after_ms * INPUT_RATE_HZ // 1000, np.float32)
        self._waiting = np.concatenate([shift, read_sound(self.folder / clip.file)])
        self.played.append(Played(clip, self._taken * 1000 / INPUT_RATE_HZ + after_ms))

    def take(self, samples: int) -> Samples:
        """Return the next samples."""
        out = self._noise.normal(0.0, ROOM, samples).astype(np.float32)
        part = self._waiting[:samples]
        out[: len(part)] += part
        self._waiting = self._waiting[samples:]
        self._taken += samples
        return out
