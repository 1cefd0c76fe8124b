"""What the users heard, as their client noted it: the truth that the runtime's own account is judged by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from microturn.protocols import MICRO_TURN_MS, ProtocolError
from microturn.runtime.rest import LOOK_BACK_WORDS
from microturn.runtime.woven_item import WovenItem
from tests.chaos.jobs import PARTS, WORDS, JobWord, job_word

HEARD_MS = MICRO_TURN_MS
"""A micro-turn of the user's speech is known once it was heard."""
STOPS_WITHIN_MS = MICRO_TURN_MS
"""And speech stops within one more; what is woven in the very step that hears the user is stopped by the next."""
SLACK_MS = 50
"""What else may come between a step and its effect: other sessions' turns, and the fade. Our choice."""


@dataclass(slots=True)
class _Piece:
    heard: set[int] = field(default_factory=set)
    reach: int = 0
    """Words heard from its beginning."""


class Record:
    """One session's client. Every method takes in one line of the runtime that has the session."""

    def __init__(self) -> None:
        self.items: dict[str, int] = {}
        """For each item its words that were heard: what a client reports when it reconnects."""
        self.told: set[str] = set()
        """Tasks of which words were heard that are no result: that it failed, say."""
        self.spoken_twice = 0
        self.out_of_order = 0
        self.breaches: list[str] = []
        """What was heard twice, out of order, or not at all, in words for whoever looks for the cause."""
        self._pieces: dict[tuple[int, int], _Piece] = defaultdict(_Piece)
        self._item = ""
        self._reach_at_begin: dict[tuple[int, int], int] = {}

    def word(self, item: str, index: int, word: str) -> None:
        """A word was heard."""
        if item == "-":
            return
        if item != self._item:
            self._item = item
            self._reach_at_begin = {key: piece.reach for key, piece in self._pieces.items()}
        self.items[item] = max(self.items.get(item, 0), index + 1)
        if (found := job_word(word)) is not None:
            self._hear(found)
        elif index >= _prefix_words(item):
            self.told.add(WovenItem.parse(item).task_id)

    def is_whole(self, job: int, part: int) -> bool:
        """Whether every word of a piece was heard."""
        return len(self._pieces[job, part].heard) == WORDS

    def _hear(self, word: JobWord) -> None:
        key = (word.job, word.part)
        piece, reach = self._pieces[key], self._reach_at_begin.get(key, 0)
        if word.index < reach:
            is_announced = _prefix_words(self._item) > 0 and reach < WORDS
            if not is_announced or word.index < reach - LOOK_BACK_WORDS:
                self.spoken_twice += 1
                self.breaches.append(f"{word} again after {reach} words, in {self._item}")
        if not piece.heard and any(
            self._pieces[word.job, later].heard for later in range(word.part + 1, PARTS)
        ):
            self.out_of_order += 1
            self.breaches.append(f"{word} after a later piece, in {self._item}; heard: {self.items}")
        piece.heard.add(word.index)
        piece.reach = max(piece.reach, word.index + 1)


class Floor:
    """When a user spoke and the assistant was to be heard, in the time of one process that has the session."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int]] = []
        self._sounds: list[tuple[int, int]] = []
        self._late: list[tuple[int, int]] = []

    def user(self, from_ms: int, to_ms: int) -> None:
        """The user speaks."""
        self._lines.append((from_ms, to_ms))

    def sound(self, from_ms: int, to_ms: int) -> None:
        """The assistant is to be heard."""
        self._sounds.append((from_ms, to_ms))

    def late(self, late_ms: int, at_ms: int) -> None:
        """A step was due at `at_ms` and done so much later, and so was whatever it stopped."""
        self._late.append((late_ms, at_ms))

    def over_user_ms(self) -> int:
        """How long the assistant was to be heard while the user spoke, longer than it takes to hear that and stop."""
        return sum(overlap_ms for overlap_ms, _ in self._overlaps())

    def breaches(self) -> list[str]:
        """Each time that it was, in words for whoever looks for the cause."""
        return [
            f"{overlap_ms} ms too long over the user, who spoke {line}; sound {self._sounds}, late {self._late}"
            for overlap_ms, line in self._overlaps()
            if overlap_ms
        ]

    def _overlaps(self) -> Iterator[tuple[int, tuple[int, int]]]:
        for start_ms, end_ms in self._lines:
            heard_ms = start_ms + self._allowed_ms(start_ms, end_ms)
            over = (max(0, min(to_ms, end_ms) - max(from_ms, heard_ms)) for from_ms, to_ms in self._sounds)
            yield sum(over), (start_ms, end_ms)

    def _allowed_ms(self, start_ms: int, end_ms: int) -> int:
        late_ms = max((late for late, at_ms in self._late if start_ms <= at_ms <= end_ms), default=0)
        return HEARD_MS + STOPS_WITHIN_MS + SLACK_MS + late_ms


def _prefix_words(item: str) -> int:
    try:
        return WovenItem.parse(item).prefix_words
    except ProtocolError:
        return 0
