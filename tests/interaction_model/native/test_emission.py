"""What is emitted, well formed or not, is read as defined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.native.emission import (
    MAX_OUTPUT_TOKENS,
    Emission,
    Fault,
    output_mask,
    read_emission,
)
from microturn.interaction_model.native.vocabulary import (
    SIZE,
    WORDS,
    Token,
    heard_token,
    read_token,
    said_token,
)

pytestmark = pytest.mark.unit

DELEGATE, CLOSE, CANCEL, END = (
    int(token) for token in (Token.DELEGATE, Token.END_DELEGATE, Token.CANCEL, Token.END)
)
HUSH = int(Token.HUSH)
NEWS, RED, OKAY = heard_token("news"), heard_token("red"), said_token("okay")

anything = st.lists(st.integers(-5, SIZE + 5), max_size=12)
allowed = st.lists(st.sampled_from([i for i, may in enumerate(output_mask()) if may]), max_size=12)


def test_every_kind_of_output_is_read() -> None:
    tokens = [NEWS, CANCEL, DELEGATE, RED, NEWS, CLOSE, int(Token.BACKCHANNEL), OKAY]
    assert read_emission(tokens) == Emission(
        heard=("news",), said=("okay",), tasks=(("red", "news"),), cancels=True, backchannel=True
    )
    assert read_emission([HUSH, OKAY]) == Emission(said=("okay",), hushes=True)


def test_silence_is_an_empty_emission() -> None:
    assert read_emission([]) == read_emission([END]) == Emission()


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([DELEGATE, NEWS], Emission(tasks=(("news",),), faults=(Fault.NOT_CLOSED,))),
        ([DELEGATE, NEWS, END, OKAY], Emission(tasks=(("news",),), faults=(Fault.NOT_CLOSED,))),
        (
            [DELEGATE, NEWS, OKAY],
            Emission(tasks=(("news",),), said=("okay",), faults=(Fault.NOT_CLOSED,)),
        ),
        (
            [DELEGATE, NEWS, OKAY, CLOSE],
            Emission(tasks=(("news",),), said=("okay",), faults=(Fault.NOT_CLOSED, Fault.STRAY_END)),
        ),
        (
            [DELEGATE, NEWS, DELEGATE, RED, CLOSE],
            Emission(tasks=(("news",), ("red",)), faults=(Fault.NOT_CLOSED,)),
        ),
        (
            [DELEGATE, NEWS, CANCEL],
            Emission(tasks=(("news",),), cancels=True, faults=(Fault.NOT_CLOSED,)),
        ),
        ([DELEGATE, CLOSE], Emission(faults=(Fault.NO_INTENT,))),
        ([DELEGATE], Emission(faults=(Fault.NOT_CLOSED, Fault.NO_INTENT))),
        ([CLOSE], Emission(faults=(Fault.STRAY_END,))),
        ([read_token("news")], Emission(faults=(Fault.NOT_OUTPUT,))),
        (
            [DELEGATE, int(Token.NOW), NEWS, CLOSE],
            Emission(tasks=(("news",),), faults=(Fault.NOT_OUTPUT,)),
        ),
        ([-1], Emission(faults=(Fault.NOT_OUTPUT,))),
        ([OKAY] * 9, Emission(said=("okay",) * 8, faults=(Fault.TOO_MANY,))),
        ([OKAY] * 8 + [END], Emission(said=("okay",) * 8)),
    ],
)
def test_malformed_output_has_a_defined_result(tokens: list[int], expected: Emission) -> None:
    assert read_emission(tokens) == expected


@given(anything)
def test_nothing_that_is_emitted_raises_and_no_task_is_empty(tokens: list[int]) -> None:
    emission = read_emission(tokens)
    assert all(emission.tasks)
    assert len(emission.heard) + len(emission.said) + sum(map(len, emission.tasks)) <= MAX_OUTPUT_TOKENS


@given(allowed)
def test_allowed_output_is_never_taken_for_input(tokens: list[int]) -> None:
    assert Fault.NOT_OUTPUT not in read_emission(tokens).faults


@given(allowed)
def test_what_comes_after_end_changes_nothing(tokens: list[int]) -> None:
    until_end = tokens[: tokens.index(END)] if END in tokens else tokens
    assert read_emission(tokens) == read_emission(until_end)


def test_the_mask_allows_marks_heard_words_and_said_words_only() -> None:
    mask = output_mask()
    assert mask.shape == (SIZE,)
    assert mask.sum() == 6 + 2 * len(WORDS)
    assert not mask[[Token.PAD, Token.AUDIO, Token.PATCH, Token.NOW, Token.TEXT, read_token("red")]].any()
