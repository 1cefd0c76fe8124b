"""The words and the numbers of the tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.native import vocabulary as v
from microturn.interaction_model.native._errors import UnknownWordsError

pytestmark = pytest.mark.unit


def test_the_numbers_are_the_ones_that_checkpoints_were_trained_with() -> None:
    assert v.FINGERPRINT == "a77784a8c6e83f7ac0224495ad27052b0f4c50fdbd9f56be94fc058cbf06a157"


def test_every_word_is_written_as_the_splitter_leaves_it() -> None:
    assert v.written_words(" ".join(v.WORDS)) == v.WORDS
    assert len(set(v.WORDS)) == len(v.WORDS) <= v.SLOTS


def test_every_token_has_one_number_and_one_meaning() -> None:
    numbers = [make(word) for make in (v.read_token, v.heard_token, v.said_token) for word in v.WORDS] + list(
        v.Token
    )
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) <= set(range(v.SIZE))
    assert max(v.Token) < v.RESERVED


def test_a_number_gives_back_its_kind_and_its_word() -> None:
    assert v.word_of(v.read_token("now")) == (v.WordKind.READ, "now")
    assert v.word_of(v.heard_token("zero")) == (v.WordKind.HEARD, "zero")
    assert v.word_of(v.said_token(v.WORDS[-1])) == (v.WordKind.SAID, v.WORDS[-1])


def test_a_number_of_no_word_has_none() -> None:
    unused = v.heard_token(v.WORDS[-1]) + 1
    assert [v.word_of(number) for number in (*v.Token, unused, v.SIZE, -1)] == [None] * (len(v.Token) + 3)


def test_a_text_is_split_without_case_marks_and_digits() -> None:
    words = v.known_words("Remind me, in 25 minutes: “It’s late!”")
    assert words == ("remind", "me", "in", "twenty", "five", "minutes", "it's", "late")


def test_an_unknown_word_is_refused_and_not_repeated() -> None:
    with pytest.raises(UnknownWordsError, match="got 1 others") as caught:
        v.known_words("open the pod")
    assert "pod" not in str(caught.value)
    assert v.read_token("pod") == v.Token.UNKNOWN
    with pytest.raises(UnknownWordsError):
        v.heard_token("pod")


@given(st.integers(0, 999))
def test_a_number_is_said_in_known_words_that_mean_it(number: int) -> None:
    words = v.number_words(number)
    assert v.known_words(" ".join(words)) == words
    assert v.number_of(words) == number


def test_numbers_are_said_as_people_say_them() -> None:
    said = [" ".join(v.number_words(number)) for number in (0, 7, 13, 40, 99, 100, 110, 205, 999)]
    assert said == [
        "zero",
        "seven",
        "thirteen",
        "forty",
        "ninety nine",
        "one hundred",
        "one hundred ten",
        "two hundred five",
        "nine hundred ninety nine",
    ]


def test_only_whole_numbers_are_numbers() -> None:
    assert v.number_of(("five", "twenty")) is None
    assert v.number_of(()) is None
    with pytest.raises(ValueError, match="got 1000"):
        v.number_words(1000)
