"""When a result is said: the policy, apart from everything that carries it out.

A policy is a pure function from what waits and what is going on to what is said now, so that it can be tested
from a table of situations. `NaturalPause` is the first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from microturn.protocols import Floor, FloorState, Speech

ROUNDING_MS = 100
"""What is due less than half a micro-turn from now is due now: the beat knows no finer time."""


@dataclass(slots=True)
class Waiting:
    """One piece of a result that has not been said."""

    task_id: str
    seq: int
    speech: Speech
    queued_ms: float
    is_rest: bool = False
    """Whether it is what the user did not hear of something that was cut off."""
    cuts: int = 0
    """How often it was cut off so far."""

    @property
    def words(self) -> int:
        """How many words it has."""
        return len(self.speech.text.split())

    def is_due(self, now_ms: float) -> bool:
        """Whether its time has come."""
        return self.speech.not_before_ms is None or self.speech.not_before_ms <= now_ms + ROUNDING_MS


@dataclass(frozen=True, slots=True)
class Moment:
    """What a policy may know of the present."""

    now_ms: float
    floor: FloorState

    @property
    def quiet_ms(self) -> float:
        """How long nobody has spoken; 0 while somebody does."""
        return self.now_ms - self.floor.since_ms if self.floor.holder is Floor.NOBODY else 0.0

    @property
    def is_natural_pause(self) -> bool:
        """Whether a result may begin here without cutting into anything.

        Nobody speaks, what the user said last sounds finished, and the model owes no answer of its own. The last
        part of a micro-turn of the assistant's own words may still be on its way: what is said now comes after it.
        """
        floor = self.floor
        return floor.holder is Floor.NOBODY and floor.user_finished and not floor.reply_due


class WeavePolicy(Protocol):
    """Decides what is said at a moment."""

    def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
        """Return the pieces to be said now as one utterance, in order; empty to wait.

        All of them stem from one task. Called once per micro-turn; must be quick and pure.
        """


@dataclass(frozen=True, slots=True)
class NaturalPause:
    """Say a result at the first natural pause, an interrupting one at once, an idle one when nothing goes on.

    Pieces of one task that wait together are said together, up to `max_words`, so that they are never read out
    one after another with gaps between.
    """

    idle_ms: float = 1500
    """How long it must have been quiet for a piece of mode `idle`. Longer than most pauses inside a conversation
    turn (up to about a second); our choice."""
    max_words: int = 60
    """Longest utterance made by joining; about 20 s of speech, our choice."""

    def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
        """Return what is said now; see `WeavePolicy.choose`."""
        due = [piece for piece in waiting if piece.is_due(moment.now_ms) and piece.speech.mode != "silent"]
        urgent = [piece for piece in due if piece.speech.mode == "interrupt"]
        if urgent:
            return self._joined(urgent)
        if not moment.is_natural_pause:
            return []
        open_to = {"pause", "idle"} if moment.quiet_ms >= self.idle_ms else {"pause"}
        return self._joined([piece for piece in due if piece.speech.mode in open_to])

    def _joined(self, pieces: list[Waiting]) -> list[Waiting]:
        """The best piece, and those of the same task that go with it."""
        if not pieces:
            return []
        best = min(pieces, key=lambda p: (-p.speech.priority, p.queued_ms, p.seq))
        chosen: list[Waiting] = []
        words = 0
        for piece in sorted((p for p in pieces if p.task_id == best.task_id), key=lambda p: p.seq):
            if chosen and (words + piece.words > self.max_words or piece.is_rest or chosen[-1].is_rest):
                break
            chosen.append(piece)
            words += piece.words
        return chosen
