"""BM25 against a direct computation of its formula, and on words that people use."""

from __future__ import annotations

import math

import pytest

from microturn.tools.builtin.ranking import K1, B, Bm25, words_of

pytestmark = pytest.mark.unit

TEXTS = ["red apple red", "green apple pie with cinnamon", "blue sky", ""]


def formula(query: str, index: int) -> float:
    """Score one text by the published formula, word by word."""
    lengths = [len(words_of(text)) for text in TEXTS]
    mean = sum(lengths) / len(lengths)
    score = 0.0
    for word in set(words_of(query)):
        holders = sum(word in words_of(text) for text in TEXTS)
        count = words_of(TEXTS[index]).count(word)
        idf = math.log(1 + (len(TEXTS) - holders + 0.5) / (holders + 0.5))
        score += idf * count * (K1 + 1) / (count + K1 * (1 - B + B * lengths[index] / mean))
    return score


@pytest.mark.parametrize("query", ["red apple", "apple", "cinnamon pies", "the blue apples"])
def test_scores_follow_the_formula(query: str) -> None:
    ranked = Bm25(TEXTS).rank(query, 10)

    assert ranked
    for each in ranked:
        assert each.score == pytest.approx(formula(query, each.index))
    assert [each.score for each in ranked] == sorted((each.score for each in ranked), reverse=True)


def test_texts_without_a_word_of_the_query_are_left_out() -> None:
    assert [each.index for each in Bm25(TEXTS).rank("sky", 10)] == [2]
    assert Bm25(TEXTS).rank("what is the", 10) == []
    assert Bm25([]).rank("sky", 10) == []


def test_equal_texts_stand_in_their_order_and_the_limit_holds() -> None:
    assert [each.index for each in Bm25(["a sky"] * 5).rank("sky", 3)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("one", "other"), [("hours", "hour"), ("Batteries", "battery"), ("RECEIPTS", "receipt")]
)
def test_plurals_and_capitals_make_no_difference(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


@pytest.mark.parametrize("word", ["glass", "bus", "tennis"])
def test_words_that_end_in_s_are_not_taken_for_plurals(word: str) -> None:
    assert words_of(word) == [word]
