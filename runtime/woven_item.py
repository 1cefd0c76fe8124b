"""The name of a woven utterance, which says what it is made of.

A client that outlives the process that spoke to it can thus still say what of which result it has played: the name
is all that is needed to turn "so many words of it" into words of each piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from microturn.runtime._errors import WovenItemError

_FORM = re.compile(
    r"woven:(?P<task>[A-Za-z0-9_.-]{1,200}):(?P<number>\d{1,9}):(?P<prefix>\d{1,3}):"
    r"(?P<stretches>\d{1,9}\.\d{1,6}\.\d{1,6}(?:,\d{1,9}\.\d{1,6}\.\d{1,6}){0,255})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of words of one piece of a result."""

    seq: int
    """The event whose words they are."""
    from_word: int
    """Where in the whole piece it begins, in words counted from 0."""
    words: int


@dataclass(frozen=True, slots=True)
class WovenItem:
    """What one woven utterance is made of. `str` gives its name, `parse` reads it."""

    task_id: str
    number: int
    """Counts the utterances of a session, so that the same words said twice have two names."""
    prefix_words: int
    """Words before the first stretch that belong to no piece, such as "As I was saying:"."""
    stretches: tuple[Stretch, ...]

    def __str__(self) -> str:
        parts = ",".join(f"{each.seq}.{each.from_word}.{each.words}" for each in self.stretches)
        return f"woven:{self.task_id}:{self.number}:{self.prefix_words}:{parts}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name.

        Raises:
            WovenItemError: it is not one that `str` makes.
        """
        form = _FORM.fullmatch(name)
        if form is None:
            raise WovenItemError(
                "cannot read the name of a woven utterance: expected `woven:TASK:NUMBER:PREFIX:SEQ.FROM.WORDS,...`, "
                f"got {len(name)} other characters; pass on item ids as they came"
            )
        parts = (map(int, part.split(".")) for part in form["stretches"].split(","))
        return cls(
            form["task"], int(form["number"]), int(form["prefix"]), tuple(Stretch(*part) for part in parts)
        )

    def reached(self, words: int) -> Iterator[int]:
        """Yield for each stretch how many of its words lie within the first `words` of the utterance."""
        left = max(0, words - self.prefix_words)
        for stretch in self.stretches:
            got = min(left, stretch.words)
            left -= got
            yield got
