"""The recogniser's tokens: from numbers to text, and how a decoder that goes round in circles is noticed.

Source: the file is a list of byte strings behind one byte of length each, a token's number being its position; a
length of zero stands for an unused number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from microturn.interaction_model._errors import WeightsMismatchError

START, END = 1, 2
"""Numbers of the tokens that open and close a text."""
_SPACE = "\u2581".encode()
_SPECIAL = re.compile(rb"^<[^>]*>$")
_LONGEST_LOOP = 12


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Byte string of every token, by number."""

    pieces: tuple[bytes, ...]

    @classmethod
    def read(cls, path: Path) -> TokenTable:
        """Read the table.

        Raises:
            WeightsMismatchError: the file ends inside a token or has no tokens for start and end.
        """
        data, at = path.read_bytes(), 0
        pieces: list[bytes] = []
        while at < len(data):
            length, at = data[at], at + 1
            pieces.append(data[at : at + length])
            at += length
        if at != len(data) or pieces[START : END + 1] != [b"<s>", b"</s>"]:
            raise WeightsMismatchError(
                "the speech recogniser's tokens",
                expected="a table with <s> and </s>",
                got=f"{len(pieces)} entries",
            )
        return cls(tuple(pieces))

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without special ones; bytes that are no UTF-8 are dropped."""
        raw = b"".join(
            self.pieces[i] for i in ids if i < len(self.pieces) and not _SPECIAL.match(self.pieces[i])
        )
        return raw.replace(_SPACE, b" ").decode("utf-8", "ignore").strip()


def repeats(ids: Sequence[int]) -> int:
    """Return how many of the last tokens only say again what stands before them, 0 when they do not.

    A loop is a pattern of 2 to 12 tokens said three times running, or one token said six times: people say
    "no no no", and "very, very" is two tokens twice. All but the pattern's first saying are counted.
    """
    for length in range(1, _LONGEST_LOOP + 1):
        times = 6 if length == 1 else 3
        if len(ids) >= length * times and len(set(_chunks(ids, length, times))) == 1:
            return length * (times - 1)
    return 0


def _chunks(ids: Sequence[int], length: int, times: int) -> list[tuple[int, ...]]:
    tail = ids[len(ids) - length * times :]
    return [tuple(tail[at : at + length]) for at in range(0, len(tail), length)]
