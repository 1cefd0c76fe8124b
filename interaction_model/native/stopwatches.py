"""How long ago somebody said something: what the clock shows beside the time of the session.

"In five seconds" is five seconds after a word of the user, and "every five seconds" after a word of the assistant. Both
could be had from the time of the session alone, but then a number, a time and another time would have to be put
together; so they are a number and a time. Our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.grammar import Bytes, PositionKind
from microturn.interaction_model.native.vocabulary import Token, WordKind, token_range

NEVER = -1
"""What a stopwatch shows that was not started yet."""
Times = tuple[int, int, int]
"""In micro-turns: time of the session, time since the user's last word, and since the assistant's; or `NEVER`."""

Numbers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Stopwatches:
    """When each side said its last word. A value: keep it to go back to it."""

    heard: int | None = None
    """The micro-turn in which a word of the user was written down, in a task too, or typed words were read."""
    said: int | None = None
    """The micro-turn in which the assistant began its last word."""

    def reading(self, turn: int, text: Sequence[str]) -> Stopwatches:
        """Return them after the inputs of a micro-turn were read."""
        return replace(self, heard=turn) if text else self

    def after(self, turn: int, tokens: Sequence[int]) -> Stopwatches:
        """Return them after the output tokens of a micro-turn."""
        heard = turn if any(token in _HEARD for token in tokens) else self.heard
        said = turn if any(token in _SAID for token in tokens) else self.said
        return Stopwatches(heard, said)

    def times(self, turn: int) -> Times:
        """What they show at the query of a micro-turn, behind the time itself."""
        return turn, _since(self.heard, turn), _since(self.said, turn)


def packed_times(
    kinds: Bytes, ids: Numbers, micro_turns: Numbers, segments: Numbers
) -> npt.NDArray[np.int64]:
    """What a session would be shown at every position of whole rows; only that of queries is read.

    Args:
        kinds: `(..., T)` values of `PositionKind`.
        ids: `(..., T)` as `PositionKind` says.
        micro_turns: `(..., T)`, never falling within a segment.
        segments: `(..., T)`, different for each conversation of a row, and never falling.

    Returns:
        `(..., T, 3)` int64: `Times`.
    """
    is_output = kinds == PositionKind.OUTPUT
    is_heard = is_output & _within(ids, _HEARD) | (kinds == PositionKind.TEXT) & (ids == Token.TEXT)
    is_said = is_output & _within(ids, _SAID)
    since = [_packed_since(marks, micro_turns, segments) for marks in (is_heard, is_said)]
    return np.stack([micro_turns, *since], -1).astype(np.int64)


_HEARD = token_range(WordKind.HEARD)
_SAID = token_range(WordKind.SAID)


def _since(began: int | None, turn: int) -> int:
    return NEVER if began is None else turn - began


def _within(ids: Numbers, tokens: range) -> npt.NDArray[np.bool_]:
    return (ids >= tokens.start) & (ids < tokens.stop)


def _packed_since(marks: npt.NDArray[np.bool_], micro_turns: Numbers, segments: Numbers) -> Numbers:
    places = np.broadcast_to(np.arange(marks.shape[-1]), marks.shape)
    last = np.maximum.accumulate(np.where(marks, places, NEVER), -1)
    at = np.maximum(last, 0)
    is_own = (last != NEVER) & (np.take_along_axis(segments, at, -1) == segments)
    since = micro_turns - np.take_along_axis(micro_turns, at, -1)
    return np.where(is_own, since, NEVER)
