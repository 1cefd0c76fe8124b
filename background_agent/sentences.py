"""Sentences: cutting a stream of text into them, and telling whether one says anything new.

Knows English abbreviations, and nothing of models and of markup beyond blocks of code, tables and links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from microturn.background_agent.plain_text import is_in_link, is_table_row

_ABBREVIATION_WORDS = """
mr mrs ms dr prof st sr jr vs etc e.g i.e a.m p.m no nos fig approx ca inc ltd co mt u.s u.k
jan feb mar apr jun jul aug sep sept oct nov dec
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_WORDS.split())
_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|\n+")


@dataclass(slots=True)
class SentenceSplitter:
    """Cuts text that is still coming into whole sentences. Owns what is not whole yet."""

    _waiting: str = field(default="")

    def feed(self, piece: str) -> list[str]:
        """Take in a piece; return the sentences that are complete and surely not the last words of the text."""
        self._waiting += piece
        sentences = []
        start = 0
        for found in _END.finditer(self._waiting):
            if self._waiting.count("```", 0, found.start()) % 2:
                continue  # A block of code is not cut.
            candidate = self._waiting[start : found.end()]
            rest = self._waiting[found.end() :]
            if not rest.strip() or _is_inside(candidate, found.group()):
                continue
            if is_in_link(candidate):
                continue  # Of one half of a link the address would be spoken.
            if _is_in_table(self._waiting[: found.start()], found.group(), rest):
                continue
            if candidate.strip():
                sentences.append(candidate.strip())
            start = found.end()
        self._waiting = self._waiting[start:]
        return sentences

    def flush(self) -> str:
        """Return what is left, the last sentence, and forget it."""
        rest, self._waiting = self._waiting.strip(), ""
        return rest


def _is_inside(candidate: str, mark: str) -> bool:
    """Whether the mark at the end of `candidate` ends an abbreviation or a list number, not a sentence."""
    if not mark.startswith(".") or len(mark) > 1:
        return False
    words = candidate[: -len(mark)].split()
    last = words[-1].lower().lstrip("(\"'") if words else ""
    return (
        last in _ABBREVIATIONS
        or (len(words) == 1 and last.isdigit())
        or (len(last) == 1 and last.isalpha() and last != "i")
    )


def _is_in_table(before: str, mark: str, rest: str) -> bool:
    """Whether the mark stands in a row of a table, or between two of them: a table is said as a whole."""
    is_row = is_table_row(before.rpartition("\n")[2])
    return is_row and (not mark.startswith("\n") or is_table_row(rest.lstrip().partition("\n")[0]))


_WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
_WEAK_WORDS = """
a an the is are was were be been it its that this these there in on of to for and or so as at by with from which
i you your my me we he she they s ve m ll re have has had do does did will would can could
result answer comes equals here just also now about okay ok sure done
"""
_WEAK = frozenset(_WEAK_WORDS.split())
_NEGATIONS = frozenset(("not", "no", "never", "t"))
"""The last is what is left of "isn't"."""


def says_nothing_new(sentence: str, said: str) -> bool:
    """Whether all that `sentence` says was in `said`: every number, every
    negation, and four in five of the words that carry it.

    Our own choice of rule, on the careful side: when in doubt, it is new.
    """
    known = set(_WORD.findall(said.lower().replace(",", "")))
    words = [w for w in _WORD.findall(sentence.lower().replace(",", "")) if w not in _WEAK]
    if not words:
        return bool(known)
    if any((w[0].isdigit() or w in _NEGATIONS) and w not in known for w in words):
        return False
    return sum(w in known for w in words) >= 0.8 * len(words)
