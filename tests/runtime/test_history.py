"""Turns of a conversation: what is said without a pause is one."""

from __future__ import annotations

import pytest

from microturn.protocols import Transcript
from microturn.runtime.history import PAUSE_MS, History

pytestmark = pytest.mark.unit


def words(history: History) -> list[tuple[str, int | None]]:
    return [(turn.text, turn.heard_words) for turn in history.turns]


def said(*spans: tuple[str, int, int]) -> History:
    history = History()
    for text, start, end in spans:
        history.assistant_said(text, len(text.split()), start, end)
    return history


def test_replies_without_a_pause_are_one_turn() -> None:
    history = said(("i'll", 1000, 1300), ("check", 1250, 1700), ("it", 1700 + PAUSE_MS - 1, 2400))
    assert words(history) == [("i'll check it", None)]
    assert (history.turns[0].start_ms, history.turns[0].end_ms) == (1000, 2400)


def test_a_pause_begins_a_new_turn() -> None:
    assert words(said(("okay", 1000, 1300), ("apple", 1300 + PAUSE_MS, 2000))) == [
        ("okay", None),
        ("apple", None),
    ]


def test_what_was_not_heard_of_the_last_words_is_known() -> None:
    history = said(("one two", 1000, 1300))
    history.assistant_said("three four", 1, 1300, 1700)
    history.assistant_said("okay", 1, 1700, 2000)
    assert words(history) == [("one two three four", 3), ("okay", None)]


def test_a_result_and_what_the_user_says_stand_alone() -> None:
    history = said(("i'll check", 1000, 1300))
    history.assistant_said("it is cold", 3, 1300, 1700, source="woven")
    history.assistant_said("good", 1, 1700, 1900)
    history.user_said(Transcript(0, "thanks", 1500, 1800, final=True))
    history.assistant_said("okay", 1, 1950, 2000)
    assert words(history) == [
        ("i'll check", None),
        ("it is cold", None),
        ("good", None),
        ("thanks", None),
        ("okay", None),
    ]
