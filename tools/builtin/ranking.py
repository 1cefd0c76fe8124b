"""Ranks short texts by the words of a query with BM25. Knows nothing of files.

Source: S. Robertson and H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

K1 = 1.2
"""How soon repeating a word stops helping. The source's middle of the usual range."""
B = 0.75
"""How much long texts are marked down."""

_COMMON = frozenset(
    {
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
    }
    | {
        "has",
        "have",
        "how",
        "i",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "should",
        "that",
    }
    | {
        "the",
        "their",
        "there",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
    }
    | {"will", "with", "would", "you", "your", "about", "say", "tell", "find", "search"}
)


def words_of(text: str) -> list[str]:
    """Split text into words in lower case, common ones left out, a plural `s` taken off."""
    return [_stem(word) for word in re.findall(r"\w+", text.casefold()) if word not in _COMMON]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One text that has at least one word of the query."""

    index: int
    """Its place among the texts that were given."""
    score: float


class Bm25:
    """An index over some texts; built once, then read only."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(words_of(text)) for text in texts]
        self._lengths = [counts.total() for counts in self._counts]
        self._mean_length = max(1.0, sum(self._lengths) / max(1, len(self._lengths)))
        self._holders: dict[str, list[int]] = {}
        for index, counts in enumerate(self._counts):
            for word in counts:
                self._holders.setdefault(word, []).append(index)

    def rank(self, query: str, limit: int) -> list[Ranked]:
        """Return the best texts, the best first; texts of equal score stand in their order."""
        scores: dict[int, float] = {}
        for word in sorted(set(words_of(query))):
            holders = self._holders.get(word, [])
            rarity = math.log(1 + (len(self._counts) - len(holders) + 0.5) / (len(holders) + 0.5))
            for index in holders:
                count = self._counts[index][word]
                room = K1 * (1 - B + B * self._lengths[index] / self._mean_length)
                scores[index] = scores.get(index, 0.0) + rarity * count * (K1 + 1) / (count + room)
        order = sorted(scores, key=lambda index: (-scores[index], index))
        return [Ranked(index, scores[index]) for index in order[:limit]]


def _stem(word: str) -> str:
    """Take off a plural ending: enough for "hours" to find "hour" and "batteries" to find "battery"."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return (
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    )
