"""Cleaning and capping of text, at every length around the limit."""

from __future__ import annotations

import re

import pytest

from microturn.tools.text import cap, clean, one_line

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("letter", ["x", "é", "語", "🙂", "\ud800"])
@pytest.mark.parametrize("limit", [256, 257, 1000])
def test_capped_text_is_valid_within_the_limit_and_counts_what_it_lost(letter: str, limit: int) -> None:
    for length in (0, 1, limit // 4, limit - 1, limit, limit + 1, 4 * limit, 4 * limit + 1, 20 * limit):
        capped = cap(letter * length, limit)
        encoded = capped.text.encode()

        assert len(encoded) <= limit
        assert capped.truncated == ("left out" in capped.text)
        if not capped.truncated:
            assert capped.text == clean(letter) * length
        else:
            assert capped.text.startswith(clean(letter)) and capped.text.endswith(clean(letter))
            found = re.search(r"\[\.\.\. (\d+) bytes left out \.\.\.\]", capped.text)
            assert found is not None and int(found[1]) > 0


def test_head_and_tail_are_both_kept() -> None:
    text = "BEGIN " + "filler " * 1000 + "END"

    assert re.fullmatch(
        r"BEGIN .*\n\[\.\.\. \d+ bytes left out \.\.\.\]\n.* END", cap(text, 500).text, re.DOTALL
    )


def test_speech_is_one_line_of_limited_length() -> None:
    assert one_line(" a\n\tb \x00 c ", 100) == "a b c"
    assert one_line("word " * 100, 10) == "word word "[:10]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bcreset", "reset"),
        ("co\u00adop\u034f", "coop"),
        ("a\u3164b\u115fc", "abc"),
        ("x\ufe01\U000e0101y", "xy"),
        ("❤️‍🔥", "❤️‍🔥"),
        ("नमस्‍ते", "नमस्‍ते"),
        ("a" + "\u200d\u200c" * 50 + "b", "a\u200d\u200cb"),
    ],
)
def test_commands_to_terminals_and_hidden_text_are_taken_out(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
