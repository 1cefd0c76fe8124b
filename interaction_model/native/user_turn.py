"""What the user said, gathered from heard words into turns: transcripts, tasks, answers, and whether they have the floor.

The network writes each word down in the micro-turn after the one in which it ended; times here are as exact as that.
A turn is over when the model acts on it, when the assistant begins to answer, or when no word followed for a second.
The rules are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.native.emission import Emission, Words
from microturn.protocols import (
    MICRO_TURN_MS,
    Action,
    Cancel,
    Delegate,
    OpenQuestion,
    Transcript,
)
from microturn.protocols import Answer as QuestionAnswered

TURN_GAP = 5
"""Micro-turns without a heard word after which a turn is over: 1 s, as long as the longest thinking pauses trained."""
FLOOR_GAP = 2
"""Micro-turns without a heard word in which the user still has the floor; words come up to three apart."""
WORD_SPAN = 2
"""Micro-turns from the first in which a word may have been said to the one in which it is written down."""
TYPED_TURN = 1_000_000
"""Turn numbers of typed lines begin here, so that they never meet those of speech."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What one micro-turn added."""

    transcripts: tuple[Transcript, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class UserTurn:
    """The turn that the user is in, or the next one. A value: keep it to go back to it."""

    number: int = 0
    words: Words = ()
    """Heard so far; left out of logs by whoever logs."""
    start_ms: int = 0
    end_ms: int = 0
    last_heard: int | None = None
    """The micro-turn in which a word was written down last."""
    typed: int = 0

    @property
    def is_open(self) -> bool:
        """Whether words were heard that were not acted on."""
        return bool(self.words)

    def has_floor(self, turn: int) -> bool:
        """Whether the user is taken to be speaking in a micro-turn."""
        return self.last_heard is not None and turn - self.last_heard <= FLOOR_GAP

    def after(
        self,
        turn: int,
        emission: Emission,
        lines: Sequence[str],
        question: OpenQuestion | None,
        *,
        begins_to_speak: bool,
    ) -> tuple[UserTurn, Understood]:
        """Take in one micro-turn.

        Args:
            turn: its number.
            emission: what the network did in it.
            lines: what the user typed.
            question: what waits for the user's answer. A turn that began after it, and that no task was made of, is
                the answer.
            begins_to_speak: whether the assistant opens its mouth in this micro-turn.
        """
        later = self._hearing(emission.heard, turn)
        acts = bool(emission.tasks) or emission.cancels or begins_to_speak
        is_over = later.is_open and (acts or turn - (later.last_heard or 0) >= TURN_GAP)
        transcripts = [later._transcript(final=is_over)] if is_over or emission.heard else []
        actions = later._actions(emission, (turn + 1) * MICRO_TURN_MS)
        if question is not None and not emission.tasks:
            actions += later._answers(question, lines, (turn + 1) * MICRO_TURN_MS, is_over=is_over)
        transcripts += [later._typed(line, n, turn) for n, line in enumerate(lines)]
        later = replace(later, typed=later.typed + len(lines))
        if is_over:
            later = replace(later, number=later.number + 1, words=())
        return later, Understood(tuple(transcripts), tuple(actions))

    def _hearing(self, words: Words, turn: int) -> UserTurn:
        if not words:
            return self
        earliest = max(0, (turn - WORD_SPAN) * MICRO_TURN_MS)
        return replace(
            self,
            words=self.words + words,
            start_ms=self.start_ms if self.words else earliest,
            end_ms=max(earliest, turn * MICRO_TURN_MS),
            last_heard=turn,
        )

    def _transcript(self, *, final: bool) -> Transcript:
        return Transcript(self.number, " ".join(self.words), self.start_ms, self.end_ms, final)

    def _typed(self, line: str, place: int, turn: int) -> Transcript:
        now_ms = (turn + 1) * MICRO_TURN_MS
        return Transcript(TYPED_TURN + self.typed + place, line, now_ms, now_ms, final=True, typed=True)

    def _actions(self, emission: Emission, now_ms: int) -> list[Action]:
        span = (self.start_ms, self.end_ms) if self.words else (now_ms, now_ms)
        cancelled: list[Action] = [Cancel(None, "the user called it off")] if emission.cancels else []
        return cancelled + [Delegate(" ".join(intent), *span) for intent in emission.tasks]

    def _answers(
        self, question: OpenQuestion, lines: Sequence[str], now_ms: int, *, is_over: bool
    ) -> list[Action]:
        if lines:
            return [QuestionAnswered(question.item_id, " ".join(lines), now_ms, now_ms)]
        if is_over and self.start_ms >= question.since_ms:
            text = " ".join(self.words)
            return [QuestionAnswered(question.item_id, text, self.start_ms, self.end_ms)]
        return []
