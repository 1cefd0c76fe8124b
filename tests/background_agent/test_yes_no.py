"""What counts as a yes, what as a no, and that nothing else is taken for either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.background_agent.yes_no import is_correction, judge

pytestmark = pytest.mark.unit

YES = """
Yes. | yes please | Yeah, go ahead. | yep | Sure, why not? | Okay. | OK, do it. | all right then | Mm-hmm. | uh-huh |
Yes yes yes! | Of course. | That's fine. | that’s right | No problem, go ahead. | Please do. | YES!!! |
Um, yeah, sure. | you can go ahead, thanks | I do. | Let's do it. | Yesss | Go for it | Why not? | Right. | Yes please, do it. | please do it now |
Yes, thank you very much. | okay, send it now please | I'm sure. | absolutely, right away | I'd like that
"""
NO = """
No. | no, don't | Not now. | No thanks. | nope | Please don't. | please do not | Don't do it. | Of course not. |
Never mind. | uh-uh | I'd rather not. | No, not yet. | I don't want that | Don't send it! | dont | Cancel that. |
no way | Hold on. | Maybe later. | That's wrong. | I said no. | You can't. | No need, thank you | Stop it |
absolutely not | I don't think so. | No no no
"""
UNCLEAR = """
yeah but to Bob instead | Yes, but make it five. | no, go ahead | Yes, no, wait. | do it later | Yes? | Okay? |
what | What do you mean? | I don't know. | maybe | perhaps | I guess so | thanks | hmm | um | Not | ... | to Bob |
yes and tell him that I am late | No, that's fine. | I don't mind. | Yes I do not | sí | oui | it said yes |
don't you dare not do it | the yes button | yes if it is cheap | not sure | sure, whatever | send it to Anna |
yes unless it rains | Would I? Yes. | knock it off | eyes | yesterday | notable | no yes | if you say so |
yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes | okay computer what time is it | YES\u0000NO
"""


def each(table: str) -> list[str]:
    return [" ".join(text.split()) for text in table.split(" | ")] + ["  " + table.split(" | ")[0] + "\n"]


@pytest.mark.parametrize("text", each(YES.replace(" |\n", " | ")))
def test_words_that_mean_yes(text: str) -> None:
    assert judge(text) == "yes"


@pytest.mark.parametrize("text", each(NO.replace(" |\n", " | ")))
def test_words_that_mean_no(text: str) -> None:
    assert judge(text) == "no"


@pytest.mark.parametrize("text", ["", " ", *each(UNCLEAR.replace(" |\n", " | "))])
def test_words_that_mean_neither_for_certain(text: str) -> None:
    assert judge(text) == "unclear"


@given(st.text(max_size=600))
def test_any_text_is_judged(text: str) -> None:
    assert judge(text) in ("yes", "no", "unclear")


@given(st.sampled_from(["but", "if", "unless", "Bob", "tomorrow", "five", "not"]))
def test_a_condition_takes_the_yes_back(word: str) -> None:
    assert judge(f"yes {word}") == "unclear"
    assert judge(f"{word} yes") == "unclear"


CHANGES = """
yeah but to Bob instead | Yes, but make it five. | no, to Anna | yes and tell him that I am late | make it five |
the other one instead | No, I meant Paris. | only the first page | okay except the last line
"""
NO_CHANGES = """
yes | no | Yes, please. | What? | to Bob? | I don't know. | maybe later | hmm | the weather | | I'm not sure about Bob |
what do you mean | perhaps to Anna | right now
"""


@pytest.mark.parametrize("text", each(CHANGES.replace(" |\n", " | ")))
def test_words_that_ask_for_something_else(text: str) -> None:
    assert is_correction(text)
    assert judge(text) == "unclear"


@pytest.mark.parametrize("text", each(NO_CHANGES.replace(" |\n", " | ")))
def test_words_that_ask_for_nothing_else(text: str) -> None:
    assert not is_correction(text)
