"""Which written word each spoken word belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.cascade.word_alignment import align

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("written", "spoken", "owners"),
    [
        (
            "the answer is 816, I think.",
            "the answer is eight hundred sixteen, I think.",
            [0, 1, 2, 3, 3, 3, 4, 5],
        ),
        ("at 7:30 pm now", "at seven thirty P.M., now", [0, 1, 1, 2, 3]),
        ("one two", "one two", [0, 1]),
        ("hello 😀 there", "hello there", [0, 2]),
        ("$ 5", "five dollars", [1, 1]),
        ("go", "please go on", [0, 0, 0]),
    ],
)
def test_spoken_words_find_their_written_words(written: str, spoken: str, owners: list[int]) -> None:
    lengths = {"7:30": 10, "pm": 5, "816,": 20, "$": 0, "5": 4}
    assert align(written.split(), spoken.split(), lambda word: lengths.get(word, len(word))) == owners


def test_without_written_words_nobody_owns_anything() -> None:
    assert align([], ["a"], len) == [None]


@given(st.lists(st.sampled_from("abc"), min_size=1), st.lists(st.sampled_from("abcxyz")))
def test_owners_never_go_back(written: list[str], spoken: list[str]) -> None:
    owners = [owner for owner in align(written, spoken, len) if owner is not None]
    assert len(owners) == len(spoken)
    assert owners == sorted(owners)
    assert all(0 <= owner < len(written) for owner in owners)
