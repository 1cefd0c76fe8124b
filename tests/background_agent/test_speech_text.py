"""Text for the ear, and sentences cut from text that is still coming."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microturn.background_agent.sentences import SentenceSplitter, says_nothing_new
from microturn.background_agent.speech_text import to_speech

pytestmark = pytest.mark.unit


MARKUP = [
    ("See [the report](https://x.org/a?b=1).", "See the report."),
    ("See [the report][1] [2] and ![a map](m.png).", "See the report and a map."),
    ("It is on https://www.example.org/long/path?q=1 now", "It is on example.org now"),
    ("It is on www.example.org/path, or <https://a.org>.", "It is on example.org, or a.org."),
    ("Write to anna.b@example.org.", "Write to anna.b at example.org."),
    (
        "Fetch ftp://a.org/x.txt, evil.example/collect?d=1 or file.txt.",
        "Fetch a.org, evil.example or file.txt.",
    ),
    ("<<b>/b>a<![CDATA[b]]></\u200bc>", "ab"),
    ("\x1b]8;;https://a.org\x1b\\click\x1b]8;;\x1b\\ here", "click here"),
    ("# Heading\n- first 5 km\n- second 1 km", "Heading, first 5 kilometres, second 1 kilometre"),
    ("1. [x] milk\n2. [ ] bread", "milk, done, bread"),
    ("> quoted\n> text", "quoted, text"),
    ("***really*** __strong__ ~~gone~~ `code`", "really strong gone code"),
    ("Run `make` then:\n```sh\nmake all\n```\nDone.", "Run make then: Done."),
    ("```only code```", ""),
    ("<b>bold</b> & plain<br>next", "bold and plain, next"),
    ("Tom &amp; Jerry", "Tom and Jerry"),
    ("a snake_case_name stays, _so_ does 2-3", "a snake_case_name stays, so does 2-3"),
    ("Great job \U0001f389! \u2705 1\ufe0f\u20e3 done", "Great job! done"),
    ("First.\n\n---\n\nSecond.", "First. Second."),
]
TABLES = [
    ("| a | b |\n|---|---|\n| 1 | 2 |", "1: 2."),
    (
        "| City | Temp | Wind |\n|:--|--:|---|\n| Oslo | -3 °C | 5 m/s |\n| Rome | 12 °C | |",
        "Oslo: Temp minus 3 degrees Celsius, Wind 5 metres per second. Rome: Temp 12 degrees Celsius.",
    ),
    (
        "| n | v |\n|--|--|\n" + "".join(f"| r{n} | {n} |\n" for n in range(7)),
        "r0: 0. r1: 1. r2: 2. r3: 3. r4: 4. and 2 more on the screen.",
    ),
    ("| 1 | 2 |", "1, 2"),
]
QUANTITIES = [
    ("**Oslo**: -3 °C, *light* snow.", "Oslo: minus 3 degrees Celsius, light snow."),
    (
        "9–12 °C; 20°; 68 °F; 5℃",
        "9 to 12 degrees Celsius; 20 degrees; 68 degrees Fahrenheit; 5 degrees Celsius",
    ),
    (
        "wind 5 m/s, I'm 5 m away, 5-10 km/h",
        "wind 5 metres per second, I'm 5 metres away, 5 to 10 kilometres per hour",
    ),
    ("25 m², 40 kg/m³, 3 g/l", "25 square metres, 40 kilograms per cubic metre, 3 grams per litre"),
    ("7 l/100 km at 100 Mbit/s", "7 litres per 100 kilometres at 100 megabits per second"),
    ("3 s in the 1990s at 5 V, 1.0 kg", "3 seconds in the 1990s at 5 volts, 1.0 kilograms"),
    ("It costs $1,200.50 or 3 €.", "It costs 1,200.50 dollars or 3 euros."),
    ("About £3 million, £1 each", "About 3 million pounds, 1 pound each"),
    ("$3.5M, £2bn, €40k, US$7", "3.5 million dollars, 2 billion pounds, 40 thousand euros, 7 dollars"),
    ("USD 5, 12 CHF, -$5", "5 dollars, 12 Swiss francs, minus 5 dollars"),
    ("$5–$10, €5-10, 5–10 €", "5 to 10 dollars, 5 to 10 euros, 5 to 10 euros"),
    ("$5 and $10 off", "5 dollars and 10 dollars off"),
    ("120 €/month, 2 €/kg", "120 euros per month, 2 euros per kilogram"),
    ("15% of it, 10–12 h, 10-15 %", "15 percent of it, 10 to 12 hours, 10 to 15 percent"),
    ("on 2026-11-22 or 2026-03-06T09:10:00+01:00", "on 22 November 2026 or 6 March 2026 at 09:10"),
    ("15–20 people, 2019–2023, 555-1234", "15 to 20 people, 2019 to 2023, 555-1234"),
    ("½ cup, 1½ cups", "a half cup, 1 and a half cups"),
]
SIGNS = [
    ("48 × 17 = 816", "48 times 17 is 816"),
    ("5 - 3 = 2, 10 / 2 = 5, 2 + 2", "5 minus 3 is 2, 10 divided by 2 is 5, 2 plus 2"),
    ("x^2 + y² = z^n", "x squared plus y squared is z to the power of n"),
    ("6.02×10^23", "6.02 times 10 to the power of 23"),
    (
        r"It is $\pi r^2$, so $\frac{1}{2} \times \sqrt{9} \leq 5$.",
        "It is pi r squared, so 1 over 2 times the square root of 9 is at most 5.",
    ),
    ("5 < 6, a >= b, x != y", "5 is less than 6, a is at least b, x is not y"),
    ("~5 people, ± 0.5, ≈ 3", "about 5 people, plus or minus 0.5, is about 3"),
    ("e.g. apples, i.e. fruit; cats vs. dogs", "for example apples, that is fruit; cats versus dogs"),
    ("#1 choice: A → B — quickly", "number 1 choice: A to B, quickly"),
    (r"in C:\Users\bob", r"in C:\Users\bob"),
]


@pytest.mark.parametrize(("shown", "said"), [*MARKUP, *TABLES, *QUANTITIES, *SIGNS])
def test_what_is_shown_becomes_what_can_be_said(shown: str, said: str) -> None:
    assert to_speech(shown) == said


@pytest.mark.parametrize("said", [said for _, said in [*MARKUP, *QUANTITIES, *SIGNS]])
def test_what_can_be_said_stays_as_it_is(said: str) -> None:
    assert to_speech(said) == said


def test_a_long_text_without_meaning_takes_no_time() -> None:
    started_s = time.perf_counter()
    for text in (
        "*" * 5_000,
        "[" * 5_000,
        "1," * 3_000,
        "| " * 3_000,
        "<" * 5_000,
        "$\\" * 2_000,
        "5 - " * 2_000,
    ):
        to_speech(text)
    assert time.perf_counter() - started_s < 3


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


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_link_or_a_picture_is_not_cut(size: int) -> None:
    text = "See [it. Or\nnot](https://a.example/b c. d) now. Or ![a](https://a.example/\np. png). Bye."
    found = sentences(text, size)
    assert found == [
        "See [it. Or\nnot](https://a.example/b c. d) now.",
        "Or ![a](https://a.example/\np. png).",
        "Bye.",
    ]
    assert [to_speech(one) for one in found] == ["See it. Or, not now.", "Or a.", "Bye."]


def test_a_bracket_that_opens_no_link_holds_no_more_than_a_link_can_be_long() -> None:
    filling = "word " * 70
    assert sentences(f"The range [0, 1) is open. So. {filling}is it. More. Bye.") == [
        f"The range [0, 1) is open. So. {filling}is it.",
        "More.",
        "Bye.",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("See ![a map](https://a.example/m?x=1", "See a map"),
        ("See [the ru", "See the ru"),
        ("See [the rules](https://a.example/x(y", "See the rules"),
    ],
)
def test_a_link_that_breaks_off_is_its_text(text: str, said: str) -> None:
    assert to_speech(text) == said


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


def test_a_table_is_kept_whole_and_said_as_one() -> None:
    text = "Here you are:\n| City | p.m. temp. today |\n|---|---|\n| Oslo | 3 |\n| Rome | 12. |\n\nThat is all. Bye."
    table = text.partition("\n")[2].partition("\n\n")[0]
    for size in (1, 4, 1000):
        assert sentences(text, size) == ["Here you are:", table, "That is all.", "Bye."]


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
