"""What is said of results that hold more than the vocabulary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.native.reading import Reading
from microturn.interaction_model.native.sayable import sayable_words
from microturn.interaction_model.native.vocabulary import WORDS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "said", "places"),
    [
        ("It is cold.", "it is cold", [0, 1, 2]),
        ("It is 21 degrees.", "it is twenty one degrees", [0, 1, None, 2, 3]),
        (
            "In the sample data, it is 14 degrees in London, with light drizzle.",
            "it is fourteen degrees in london",
            [4, 5, 6, 7, 8, 12],
        ),
        ("The zeppelin is late", "the is late", [1, 2, 3]),
        ("Zeppelins fly.", "", []),
        ("", "", []),
    ],
)
def test_clauses_that_are_known_are_said_and_the_rest_is_passed_over(
    text: str, said: str, places: list[int | None]
) -> None:
    words = sayable_words(text)
    assert " ".join(word for word, _ in words) == said
    assert [place for _, place in words] == places


@given(st.lists(st.sampled_from([*WORDS[::9], "zeppelin", "data,", "late.", "117", "..."]), max_size=12))
def test_once_all_that_can_be_said_is_said_the_whole_text_lies_behind(pieces: list[str]) -> None:
    words = sayable_words(" ".join(pieces))
    places = [place for _, place in words if place is not None]
    assert places == sorted(set(places))
    assert all(word in WORDS for word, _ in words)
    assert places[-1:] == ([len(pieces) - 1] if words else [])


def test_of_a_result_the_network_reads_what_it_can_say() -> None:
    inputs, _ = Reading().given(["a zeppelin"], ["In the data, it is 14 degrees."]).next(0)
    assert inputs.text == ("a", "zeppelin")
    assert inputs.background == (("it", "is", "fourteen", "degrees"),)
