"""How far the mouth has got with what it was given, in milliseconds: what decides when its next word begins.

It is the time of the mouth's `SpeechTrack` without its symbols, for whoever has no mouth: plans and free runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.native.speech_track import QUIET_FRAMES
from microturn.interaction_model.native.vocoder_frames import TURN_FRAMES
from microturn.protocols import MICRO_TURN_MS

OwnWordMs = Callable[[str, str | None], int]
"""How long the assistant takes for a word, given the one it follows without a gap, if any."""
QUIET_MS = QUIET_FRAMES * MICRO_TURN_MS // TURN_FRAMES
"""After so much silence nothing of the last word is left, 400 ms."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Where the mouth is at the begin of a micro-turn's sound. A value: keep it to go back to it."""

    left_ms: int = 0
    """Until all that it was given is said, pauses included."""
    silent_ms: int = QUIET_MS
    """How long it has said nothing, at most `QUIET_MS`; 0 while it speaks."""
    before: str | None = None
    """The word that the next one follows without a gap."""

    @property
    def is_speaking(self) -> bool:
        """Whether something is left to say."""
        return self.left_ms > 0

    @property
    def is_quiet(self) -> bool:
        """Whether the next 200 ms are silence unless a word comes."""
        return not self.is_speaking and self.silent_ms >= QUIET_MS

    @property
    def has_rested(self) -> bool:
        """Whether nothing was said for a whole micro-turn."""
        return not self.is_speaking and self.silent_ms >= MICRO_TURN_MS

    def stopped(self) -> Pace:
        """Return it with nothing left to say."""
        return replace(self, left_ms=0, before=None)

    def saying(self, words: Sequence[str], word_ms: OwnWordMs) -> Pace:
        """Return it with words behind what is being said."""
        left, before = self.left_ms, self.before
        for word in words:
            left += word_ms(word, before)
            before = word
        return Pace(left, 0 if words else self.silent_ms, before)

    def fitting(self, words: Sequence[str], word_ms: OwnWordMs) -> int:
        """How many of the words begin in these 200 ms if each is said without a gap."""
        pace, count = self, 0
        while count < len(words) and pace.left_ms < MICRO_TURN_MS:
            pace = pace.saying(words[count : count + 1], word_ms)
            count += 1
        return count

    def later(self) -> Pace:
        """Return it a micro-turn later."""
        if self.left_ms >= MICRO_TURN_MS:
            return replace(self, left_ms=self.left_ms - MICRO_TURN_MS)
        silent = self.silent_ms + MICRO_TURN_MS - self.left_ms
        return Pace(silent_ms=min(silent, QUIET_MS))
