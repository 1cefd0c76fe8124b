"""Digits and strings of digits, which are written down, and said back if that was asked for in writing.

What is asked is typed, so that nobody but the one who says the digits is heard, and digits that come out of nothing do not
look like the begin of any conversation.
"""

from __future__ import annotations

from collections.abc import Callable

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.hearing_task import HEAR_ALL
from microturn.interaction_model.training.scene import Talk
from microturn.interaction_model.training.stage import Forms, Stage

Say = Callable[[Stage, Words], Talk]
"""Lets the user say digits now, and moves to their end."""

LONGEST = 7
"""Digits in a string, as in a telephone number without its area."""
_SAID_BACK = 0.4
_ALONE = 0.35
_ASKED = Forms(
    train=("say what you hear", "please say what i say", "say it again every time"),
    test=("can you say what you hear",),
)


def digits(stage: Stage, say: Say = Stage.user) -> None:
    """Two to six digits or strings of digits, with pauses between them."""
    is_said_back = stage.chance(_SAID_BACK)
    if is_said_back:
        stage.text(stage.form(_ASKED))
        stage.reply(("okay",))
    else:
        stage.text(stage.form(HEAR_ALL))
    stage.wait(300, 1500)
    for _ in range(stage.between(2, 6)):
        talk = say(stage, _string(stage))
        if is_said_back:
            stage.moment("turn", talk.start_ms, talk.end_ms)
            stage.reply(talk.phrase.words)
        stage.wait(500, 2000)


def _string(stage: Stage) -> Words:
    """Draw digits. Single ones are of both splits: each has to be learned."""
    if stage.chance(_ALONE):
        return (stage.one_of(THEMES["units"]),)
    length = stage.between(2, LONGEST)
    return stage.own_content(lambda: tuple(stage.one_of(THEMES["units"]) for _ in range(length)))
