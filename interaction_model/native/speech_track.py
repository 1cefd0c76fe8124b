"""What is being said: the symbols that wait to be spoken, and which of them each frame belongs to.

Values, never changed in place, so that a session can be rewound. A frame knows its symbol, the one before and the two
behind it as far as its own word goes: a word that is said later never changes frames that were drawn before it, and
the teacher's frames are described exactly as the mouth's own. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.pronunciation import SILENCE

UNIT_FRAMES = 2
"""Frames of one unit of duration, 25 ms; the teacher's durations are whole units."""
NEIGHBOURS = 4
"""Symbols that describe a frame: before, its own, next, next but one."""
MEASURES = 3
"""Numbers that describe a frame: how much of the symbol has passed, its length, how long speech has gone on."""
QUIET_FRAMES = 32
"""After so many frames of silence nothing of the last word is left."""
_LONG_UNITS = 8
_LONG_SPEECH_FRAMES = 160


@dataclass(frozen=True, slots=True)
class TimedSymbol:
    """A symbol to be spoken."""

    number: int
    after: tuple[int, int]
    """The next two symbols of the same word, `SILENCE` where it has none."""
    units: int
    ends_word: bool
    """Whether the word is said when this symbol is."""


@dataclass(frozen=True, slots=True)
class FrameStates:
    """What is spoken in each frame."""

    symbols: npt.NDArray[np.int64]
    """`(F, NEIGHBOURS)`"""
    measures: npt.NDArray[np.float32]
    """`(F, MEASURES)`, each from 0 to 1."""
    ends: tuple[int, ...] = ()
    """For each word that ends in these frames, in order, the frame behind its last one."""


@dataclass(frozen=True, slots=True)
class SpeechTrack:
    """Where the mouth is in what it says."""

    waiting: tuple[TimedSymbol, ...] = field(default=(), repr=False)
    """What is left to say; the first is being said. Left out of the text form: it is what the assistant says."""
    passed: int = 0
    """Frames of the first symbol that lie behind."""
    before: int = SILENCE
    silent: int = QUIET_FRAMES
    """Frames of silence so far, at most `QUIET_FRAMES`."""
    spoken: int = 0
    """Frames since speech began."""

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to say and nothing dies away."""
        return not self.waiting and self.silent >= QUIET_FRAMES

    def adding(self, word: Sequence[int], units: Sequence[int]) -> SpeechTrack:
        """Return the track with a word behind it; symbols of no length are left out.

        Args:
            word: numbers of the symbols, the pause last.
            units: length of each. The last symbol before the pause takes at least one unit, so that every word ends.

        Raises:
            ValueError: there are not as many units as symbols.
        """
        following = [*word[1:], SILENCE, SILENCE]
        last = len(word) - 2
        timed = [
            TimedSymbol(number, (following[at], following[at + 1]), max(length, at == last), at == last)
            for at, (number, length) in enumerate(zip(word, units, strict=True))
            if length > 0 or at == last
        ]
        return replace(self, waiting=(*self.waiting, *timed))

    def cut(self) -> SpeechTrack:
        """Return the track with nothing left to say: what was being said dies away."""
        return replace(self, waiting=(), passed=0)

    def advanced(self, frames: int) -> tuple[SpeechTrack, FrameStates]:
        """Return the track `frames` frames later, and what those frames are."""
        symbols = np.zeros((frames, NEIGHBOURS), np.int64)
        measures = np.zeros((frames, MEASURES), np.float32)
        ends = []
        track = self
        for frame in range(frames):
            symbols[frame], measures[frame] = track._now()
            stepped = track._stepped()
            if len(stepped.waiting) < len(track.waiting) and track.waiting[0].ends_word:
                ends.append(frame + 1)
            track = stepped
        return track, FrameStates(symbols, measures, tuple(ends))

    def _now(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        if not self.waiting:
            return (self.before, SILENCE, SILENCE, SILENCE), (self.silent / QUIET_FRAMES, 0.0, 0.0)
        symbol = self.waiting[0]
        fraction = (self.passed + 0.5) / (symbol.units * UNIT_FRAMES)
        length = min(symbol.units / _LONG_UNITS, 1.0)
        elapsed = min(self.spoken / _LONG_SPEECH_FRAMES, 1.0)
        return (self.before, symbol.number, *symbol.after), (fraction, length, elapsed)

    def _stepped(self) -> SpeechTrack:
        if not self.waiting:
            silent = min(self.silent + 1, QUIET_FRAMES)
            return replace(
                self, silent=silent, spoken=0, before=self.before if silent < QUIET_FRAMES else SILENCE
            )
        symbol = self.waiting[0]
        if self.passed + 1 < symbol.units * UNIT_FRAMES:
            return replace(self, passed=self.passed + 1, silent=0, spoken=self.spoken + 1)
        return SpeechTrack(self.waiting[1:], 0, symbol.number, 0, self.spoken + 1)
