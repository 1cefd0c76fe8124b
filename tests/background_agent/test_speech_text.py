"""Text for the ear, and sentences cut from text that is still coming."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microturn.background_agent.sentences import SentenceSplitter, says_nothing_new
from microturn.background_agent.speech_text import to_speech

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("**Oslo**: -3 °C, *light* snow.", "Oslo: minus 3 degrees Celsius, light snow."),
        ("See [the report](https://x.org/a?b=1).", "See the report."),
        ("It is on https://www.example.org/long/path?q=1 now", "It is on example.org now"),
        ("# Heading\n- first 5 km\n- second 1 km", "Heading first 5 kilometres second 1 kilometre"),
        ("It costs $1,200.50 or 3 €.", "It costs 1,200.50 dollars or 3 euros."),
        ("About £3 million, £1 each", "About 3 million pounds, 1 pound each"),
        ("48 × 17 = 816", "48 times 17 is 816"),
        ("15% of it, 10–12 h", "15 percent of it, 10 to 12 hours"),
        ("Run `make` then:\n```sh\nmake all\n```\nDone.", "Run make then: Done."),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a, b 1, 2"),
        ("a snake_case_name stays, _so_ does 2-3", "a snake_case_name stays, so does 2-3"),
        ("wind 5 m/s, I'm 5 m away", "wind 5 metres per second, I'm 5 metres away"),
        ("Great job \U0001f389!", "Great job!"),
        ("<b>bold</b> & plain", "bold and plain"),
        ("```only code```", ""),
    ],
)
def test_markup_signs_and_units_become_words(shown: str, said: str) -> None:
    assert to_speech(shown) == said


@given(st.text(max_size=300))
@settings(max_examples=150, deadline=None)
def test_speech_is_one_line_without_markup(text: str) -> None:
    said = to_speech(text)
    assert "\n" not in said
    assert "`" not in said
    assert said == said.strip()


def sentences(text: str, size: int = 1) -> list[str]:
    splitter = SentenceSplitter()
    found = [s for start in range(0, len(text), size) for s in splitter.feed(text[start : start + size])]
    return [*found, splitter.flush()]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences_are_the_same_however_the_text_comes_in(size: int) -> None:
    text = "Dr. Smith has 3.5 kg. It is 5 p.m. now! Really? Yes, e.g. here. 1. First\n2. Second. Last one."
    assert sentences(text, size) == [
        "Dr. Smith has 3.5 kg.",
        "It is 5 p.m. now!",
        "Really?",
        "Yes, e.g. here.",
        "1. First",
        "2. Second.",
        "Last one.",
    ]


def test_the_last_sentence_is_kept_until_the_end() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("One. Two. ") == ["One."]
    assert splitter.flush() == "Two."
    assert splitter.flush() == ""


def test_a_block_of_code_is_not_cut() -> None:
    assert sentences("Here:\n```\na. b. c\n```\nThat is all. Bye.") == [
        "Here:",
        "```\na. b. c\n```",
        "That is all.",
        "Bye.",
    ]


@given(st.text(alphabet="ab.!? \n1", max_size=80), st.integers(1, 7))
@settings(max_examples=150, deadline=None)
def test_no_character_but_space_is_lost(text: str, size: int) -> None:
    assert "".join("".join(sentences(text, size)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("sentence", "said", "nothing_new"),
    [
        ("The result is 816.", "48 times 17 is 816.", True),
        ("It's 816.", "48 times 17 is 816.", True),
        ("It is not 816.", "48 times 17 is 816.", False),
        ("It isn't snowing in Oslo.", "It is snowing in Oslo.", False),
        ("That is 817.", "48 times 17 is 816.", False),
        ("In Lisbon it is warmer.", "In Oslo it is 3 degrees.", False),
        ("1200 euros", "It costs 1,200 euros.", True),
        ("Anything at all", "", False),
    ],
)
def test_only_what_adds_nothing_is_left_out(sentence: str, said: str, nothing_new: bool) -> None:
    assert says_nothing_new(sentence, said) is nothing_new
