"""What speakers are given to say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training.phrases import PATTERNS, draw_phrase

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def phrases() -> list[tuple[str, ...]]:
    generator = np.random.default_rng(0)
    return [draw_phrase(generator) for _ in range(12_000)]


def test_every_phrase_is_of_the_vocabulary(phrases: list[tuple[str, ...]]) -> None:
    assert {word for phrase in phrases for word in phrase} == set(WORDS)
    assert max(map(len, phrases)) <= 18 and min(map(len, phrases)) >= 1


def test_no_word_is_rare(phrases: list[tuple[str, ...]]) -> None:
    counts = Counter(word for phrase in phrases for word in phrase)
    assert min(counts.values()) > 50


def test_every_pattern_comes_up(phrases: list[tuple[str, ...]]) -> None:
    for pattern in PATTERNS:
        fixed = [piece for piece in pattern.split() if not piece.startswith("{")]
        assert any(set(fixed) <= set(phrase) for phrase in phrases), pattern


def test_most_phrases_are_different(phrases: list[tuple[str, ...]]) -> None:
    assert len(set(phrases)) > 0.6 * len(phrases)


def test_a_seed_gives_the_same_phrases() -> None:
    first, second = (np.random.default_rng(7) for _ in range(2))
    assert [draw_phrase(first) for _ in range(50)] == [draw_phrase(second) for _ in range(50)]
