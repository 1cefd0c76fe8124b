"""When a result is said: the policy, apart from everything that carries it out.

A policy is a pure function from what waits and what is going on to what is said now, so that it can be tested
from a table of situations (`runtime/testing/situations.py`). `NaturalPause` is the one that is used unless another
is chosen; `Courteous` shows how a policy is built on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from microturn.protocols import Floor, FloorState, Speech

ROUNDING_MS = 100
"""What is due less than half a micro-turn from now is due now: the beat knows no finer time."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One piece of a result that has not been said. Two are the same only if they are one object."""

    task_id: str
    seq: int
    speech: Speech
    """What is left to be said of it, and the rules for when."""
    queued_ms: float
    from_word: int = 0
    """Where in the whole piece `speech` begins, in words."""
    heard: int = 0
    """How far the user has heard the whole piece, in words, over all the times that it was begun."""
    is_filler: bool = False
    """Whether it only fills a wait: it is worth nothing once a result has come."""
    has_begun: bool = False
    """Whether something of its task's answer was said before."""
    is_rest: bool = False
    """Whether it is what the user did not hear of something that was cut off."""
    cuts: int = 0
    """How often it was cut off so far."""

    @property
    def asks(self) -> bool:
        """Whether it is a question to the user."""
        return self.speech.kind == "question"

    @property
    def words(self) -> int:
        """How many words are left to be said."""
        return len(self.speech.text.split())

    @property
    def words_total(self) -> int:
        """How many words the whole piece has."""
        return self.from_word + self.words

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
    def is_open(self) -> bool:
        """Whether the floor is free: nobody speaks, the model owes no answer of its own, and the user has not asked
        for a moment.

        The last part of a micro-turn of the assistant's own words may still be on its way: what is said now comes
        after it.
        """
        floor = self.floor
        return floor.holder is Floor.NOBODY and not floor.reply_due and not floor.is_held


class WeavePolicy(Protocol):
    """Decides what is said at a moment."""

    def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
        """Return the pieces to be said now as one utterance, in order; empty to wait.

        All of them stem from one task. Called once per micro-turn; must be quick and pure.
        """


@dataclass(frozen=True, slots=True)
class NaturalPause:
    """Say a result at the first natural pause, an interrupting one at once, an idle one when nothing goes on.

    A pause is natural where the floor is free and what the user said last sounds finished, or has been followed by so
    long a silence that nothing more is to be expected. Pieces of one task that wait together are said together, up to
    `max_words`, so that they are never read out one after another with gaps between; of several tasks, the one that
    is already being told comes first.
    """

    idle_ms: float = 1500
    """How long it must have been quiet for a piece of mode `idle`. Longer than most pauses inside a conversation
    turn (up to about a second); our choice."""
    unfinished_ms: float = 2500
    """Silence after which a pause is natural although what was said does not sound finished. Hardly anybody thinks
    for longer in the middle of a sentence; our choice."""
    max_words: int = 60
    """Longest utterance made by joining; about 20 s of speech, our choice."""

    def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
        """Return what is said now; see `WeavePolicy.choose`."""
        due = [piece for piece in waiting if piece.is_due(moment.now_ms) and piece.speech.mode != "silent"]
        urgent = [piece for piece in due if piece.speech.mode == "interrupt"]
        if urgent:
            return self._joined(urgent)
        if not self.is_natural_pause(moment):
            return []
        if moment.quiet_ms >= self.idle_ms:
            return self._joined(due)
        ready = [piece for piece in due if piece.speech.mode == "pause"]
        return self._joined(ready + _earlier_rests(ready, due))

    def is_natural_pause(self, moment: Moment) -> bool:
        """Whether a result may begin here without cutting into anything."""
        return moment.is_open and (moment.floor.user_finished or moment.quiet_ms >= self.unfinished_ms)

    def _joined(self, pieces: list[Waiting]) -> list[Waiting]:
        """The best piece, and those of the same task that go with it."""
        if not pieces:
            return []
        best = min(pieces, key=lambda p: (-p.speech.priority, not p.has_begun, p.queued_ms, p.seq))
        chosen: list[Waiting] = []
        words = 0
        for piece in sorted((p for p in pieces if p.task_id == best.task_id), key=lambda p: p.seq):
            if chosen and (words + piece.words > self.max_words or (piece.is_rest and not chosen[0].is_rest)):
                break
            if chosen and chosen[-1].asks:  # What follows a question would stand between it and its answer.
                break
            chosen.append(piece)
            words += piece.words
        return chosen


@dataclass(frozen=True, slots=True)
class Courteous:
    """Wait until it has been quiet for a while before anything is said that does not interrupt.

    For places where the user often goes on after a pause, such as dictation or thinking aloud.
    """

    quiet_ms: float = 1000
    """How long nobody must have spoken. Our choice."""
    within: NaturalPause = field(default_factory=NaturalPause)
    """Decides once it is quiet."""

    def choose(self, waiting: Sequence[Waiting], moment: Moment) -> list[Waiting]:
        """Return what is said now; see `WeavePolicy.choose`."""
        if moment.quiet_ms >= self.quiet_ms:
            return self.within.choose(waiting, moment)
        return self.within.choose([piece for piece in waiting if piece.speech.mode == "interrupt"], moment)


def _earlier_rests(ready: list[Waiting], due: list[Waiting]) -> list[Waiting]:
    """Rests that go before what is ready of the same tasks: an answer is taken up where it was cut off rather than
    told from its end."""
    newest: dict[str, int] = {}
    for piece in ready:
        newest[piece.task_id] = max(piece.seq, newest.get(piece.task_id, -1))
    return [
        piece
        for piece in due
        if piece.is_rest and piece.speech.mode == "idle" and piece.seq < newest.get(piece.task_id, -1)
    ]
