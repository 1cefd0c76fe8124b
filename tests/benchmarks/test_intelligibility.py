"""Texts are compared by how they sound, without hesitations."""

from __future__ import annotations

import pytest

pytest.importorskip("hibari", reason="phonemes need the extra [speech]")

from intelligibility import edit_distance, without_hesitations

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "abc", 0), ("abc", "", 3), ("flaw", "lawn", 2)],
)
def test_the_distance_is_the_fewest_edits(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == distance


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I need, uh, a ticket.", "I need, a ticket."),
        ("times… Um… seventeen?", "times… seventeen?"),
        ("Uh-huh, the umbrella.", "Uh-huh, the umbrella."),
    ],
)
def test_hesitations_are_left_out_and_words_are_kept(text: str, plain: str) -> None:
    assert without_hesitations(text) == plain
