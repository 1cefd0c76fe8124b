"""What moves a playout along the listener's time, and where the sound of both sides goes.

A `Tap` gets what was heard and what was played, to record or measure it. `PacedPlayer` plays by the clock alone;
the one that plays to a loudspeaker is in `audio_device.py`.
"""

from __future__ import annotations

from typing import Protocol

from microturn.protocols import MICRO_TURN_MS, OUTPUT_RATE_HZ, Samples
from microturn.runtime.playout import Playout


class Tap(Protocol):
    """Receives both sides of a conversation, each without gaps. Must not wait."""

    def heard(self, audio: Samples) -> None:
        """What the user's side sounded like, at 16 kHz, from session time 0."""

    def played(self, audio: Samples) -> None:
        """What the assistant's side sounded like, at 24 kHz, from the end of micro-turn 0."""


class Player(Protocol):
    """Moves a playout."""

    def advance(self, session_ms: float) -> None:
        """Play all that is due by this session time. Called on the beat, before and after each step."""


class PacedPlayer:
    """Plays exactly as fast as time goes by, into the taps."""

    def __init__(self, playout: Playout, taps: tuple[Tap, ...] = ()) -> None:
        self._playout = playout
        self._taps = taps

    def advance(self, session_ms: float) -> None:
        """Play up to `session_ms`."""
        due = int((session_ms - MICRO_TURN_MS) * OUTPUT_RATE_HZ / 1000) - self._playout.clock_samples
        if due > 0:
            audio = self._playout.play(due)
            for tap in self._taps:
                tap.played(audio)
