"""The words of a result that the network can say: it reads these and no others, and is expected to say them.

A clause with a word outside the vocabulary is left out as a whole where another one can be said: half of a clause may
say something else. On the screen and in the history the whole text stands. The rules are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import WORDS, written_words

SayableWord = tuple[str, int | None]
"""A word, and the place in the text of the last piece that lies behind the listener when it was said; None within a
number of several words."""

_KNOWN = frozenset(WORDS)
_CLAUSE_ENDS = ",.;:!?…"


def sayable_words(text: str) -> tuple[SayableWord, ...]:
    """Return the words that can be said of a text; what is left out counts as said with the word before it."""
    pieces = [written_words(piece) for piece in text.split()]
    kept = [place for clause in _clauses(text) if _is_known(pieces, clause) for place in clause]
    kept = kept or list(range(len(pieces)))
    known = [(place, [word for word in pieces[place] if word in _KNOWN]) for place in kept]
    said = [(place, words) for place, words in known if words]
    ends = [later - 1 for _, (later, _) in pairwise(said)] + [len(pieces) - 1]
    return tuple(
        (word, end if number == len(words) - 1 else None)
        for (_, words), end in zip(said, ends, strict=False)
        for number, word in enumerate(words)
    )


def _clauses(text: str) -> list[list[int]]:
    """Places of the pieces of each clause."""
    clauses: list[list[int]] = [[]]
    for place, piece in enumerate(text.split()):
        clauses[-1].append(place)
        if piece[-1] in _CLAUSE_ENDS:
            clauses.append([])
    return clauses


def _is_known(pieces: Sequence[Words], clause: Sequence[int]) -> bool:
    words = [word for place in clause for word in pieces[place]]
    return bool(words) and _KNOWN.issuperset(words)
