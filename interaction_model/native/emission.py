"""What the native model emitted in one micro-turn, read back into words, tasks and cancellations.

A network can emit anything, so every sequence has a defined result: what can be understood is used, what cannot is
left out, and each repair is named in `Emission.faults`. The rules favour not losing a task that the user asked for.
Knows tokens only; what a task or a word leads to is decided by who serves the model. The rules are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.vocabulary import (
    SIZE,
    WORDS,
    Token,
    WordKind,
    heard_token,
    said_token,
    word_of,
)

MAX_OUTPUT_TOKENS = 8
"""Most tokens that one micro-turn may emit; the model is not asked for a ninth."""
MARKS = (Token.DELEGATE, Token.END_DELEGATE, Token.CANCEL, Token.BACKCHANNEL, Token.HUSH)
"""What may be emitted beside words and END."""

Words = tuple[str, ...]


class Fault(StrEnum):
    """How an emission broke the grammar, and what was done about it."""

    TOO_MANY = "too_many"
    """Tokens after the eighth; they are not read."""
    NOT_OUTPUT = "not_output"
    """A token that only stands in the input; it is left out."""
    NOT_CLOSED = "not_closed"
    """A task without END_DELEGATE: the micro-turn's end, or a token that is no heard word, closes it."""
    NO_INTENT = "no_intent"
    """A task without a word; it is left out."""
    STRAY_END = "stray_end"
    """END_DELEGATE outside a task; it is left out."""


@dataclass(frozen=True, slots=True)
class Emission:
    """What one micro-turn's tokens mean.

    A cancellation takes effect before the tasks beside it, and the words beside a `hushes` are said after it.
    """

    heard: Words = ()
    """Words of the user, as understood."""
    said: Words = ()
    """Words that the assistant begins to say."""
    tasks: tuple[Words, ...] = ()
    """For each delegation, its intent in words; never empty."""
    cancels: bool = False
    backchannel: bool = False
    hushes: bool = False
    """Whether what is being said is broken off."""
    faults: tuple[Fault, ...] = ()
    """Repairs, in the order in which they were made."""


def output_mask() -> npt.NDArray[np.bool_]:
    """Return which tokens may be emitted, END among them: (V,) bool, to mask the logits with."""
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[[Token.END, *MARKS]] = True
    for token_of in (heard_token, said_token):
        mask[[token_of(word) for word in WORDS]] = True
    return mask


def read_emission(tokens: Sequence[int]) -> Emission:
    """Read the tokens of one micro-turn, up to the first END or the eighth token.

    Numbers that stand for nothing count as `Fault.NOT_OUTPUT`; nothing raises.
    """
    reader = _Reader()
    for token in tokens[:MAX_OUTPUT_TOKENS]:
        if token == Token.END:
            return reader.finish()
        reader.read(token)
    if any(token != Token.END for token in tokens[MAX_OUTPUT_TOKENS : MAX_OUTPUT_TOKENS + 1]):
        reader.faults.append(Fault.TOO_MANY)
    return reader.finish()


@dataclass(slots=True)
class _Reader:
    heard: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    tasks: list[Words] = field(default_factory=list)
    intent: list[str] | None = None
    """Words of the open task; None outside a task."""
    cancels: bool = False
    backchannel: bool = False
    hushes: bool = False
    faults: list[Fault] = field(default_factory=list)

    def read(self, token: int) -> None:
        match word_of(token):
            case (WordKind.HEARD, word):
                (self.heard if self.intent is None else self.intent).append(word)
            case (WordKind.SAID, word):
                self._leave_task()
                self.said.append(word)
            case _:
                self._read_mark(token)

    def _read_mark(self, token: int) -> None:
        match token:
            case Token.DELEGATE:
                self._leave_task()
                self.intent = []
            case Token.END_DELEGATE:
                self._close_task()
            case Token.CANCEL:
                self._leave_task()
                self.cancels = True
            case Token.BACKCHANNEL:
                self._leave_task()
                self.backchannel = True
            case Token.HUSH:
                self._leave_task()
                self.hushes = True
            case _:
                self.faults.append(Fault.NOT_OUTPUT)

    def _leave_task(self) -> None:
        if self.intent is not None:
            self.faults.append(Fault.NOT_CLOSED)
            self._close_task()

    def _close_task(self) -> None:
        if self.intent is None:
            self.faults.append(Fault.STRAY_END)
        elif not self.intent:
            self.faults.append(Fault.NO_INTENT)
        else:
            self.tasks.append(tuple(self.intent))
        self.intent = None

    def finish(self) -> Emission:
        self._leave_task()
        return Emission(
            heard=tuple(self.heard),
            said=tuple(self.said),
            tasks=tuple(self.tasks),
            cancels=self.cancels,
            backchannel=self.backchannel,
            hushes=self.hushes,
            faults=tuple(self.faults),
        )
