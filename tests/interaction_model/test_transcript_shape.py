"""What the words of a transcript show."""

from __future__ import annotations

import pytest

from microturn.interaction_model.cascade.transcript_shape import observe

pytestmark = pytest.mark.unit


def seen(text: str) -> set[str]:
    """Return the names of what holds."""
    return {name for name, value in observe(text).items() if value}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Set a timer for um", "ends in a hesitation"),
        ("Book me a", "ends in an article"),
        ("Call my.", "ends in a possessive"),
        ("a flight to", "ends in a preposition"),
        ("turn it on", "ends in a preposition that may end a sentence"),
        ("I want to go and", "ends in a conjunction"),
        ("I think it's", "ends in an auxiliary"),
        ("could you find", "ends in a verb without its object"),
        ("at 7 p.m. or 19", "ends in digits"),
        ("What is it?", "ends with a question mark"),
        ("Wait\u2026", "ends with a comma or dots"),
        ("well,", "ends with a comma or dots"),
        ("so then", "ends with no mark"),
        ("", "has no words"),
        ("Stop!", "has one word"),
        ("If it rains,", "a first clause waits for the main one"),
        ("Hello. When I get home,", "a first clause waits for the main one"),
        ("If it rains, wake me up early.", "a first clause has its main one"),
        ("Please, what time is the", "is a question without its mark"),
        ("How far is it?", "is a short question"),
    ],
)
def test_it_is_seen(text: str, name: str) -> None:
    assert name in seen(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Turn off the light.", "ends in an article"),
        ("Well...", "ends with a full stop"),
        ("What time is it?", "is a question without its mark"),
        ("When does it start?", "a first clause has its main one"),
    ],
)
def test_it_is_not_seen(text: str, name: str) -> None:
    assert name not in seen(text)


def test_every_text_has_the_same_observations() -> None:
    names = list(observe(""))
    for text in ("Hello.", "\U0001f600", "a" * 1_000, "1 2 3", "?!"):
        assert list(observe(text)) == names
        assert set(observe(text).values()) <= {0.0, 1.0}
