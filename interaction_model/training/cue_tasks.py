"""Speaking at a cue while the user goes on talking.

After CueSpeak of Thinking Machines' post on interaction models, whose items and windows are not public: these are
ours, and figures are not comparable.
"""

from __future__ import annotations

from itertools import product

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.conversations import statement
from microturn.interaction_model.training.scene import Talk
from microturn.interaction_model.training.stage import HEARD_AFTER, Forms, Stage, turn_of
from microturn.interaction_model.training.user_requests import ECHOED

WINDOW_MS = 1200
"""An answer counts if it begins to be heard within this time of the cue's end; our choice."""

_WHEN = (
    "when i say {0}",
    "when you hear {0}",
    "every time i say {0}",
    "every time you hear {0}",
)
_THEN = (
    "say {1}",
    "you say {1}",
    "please say {1}",
    "tell me {1}",
    "can you say {1}",
    "i want you to say {1}",
)
_HELD_OUT = "say {1} when i say {0}"
_ASKED = Forms(
    train=tuple(
        asked
        for when, then in product(_WHEN, _THEN)
        for asked in (f"{when} {then}", f"{then} {when}")
        if asked != _HELD_OUT
    ),
    test=(_HELD_OUT,),
)


def cue(stage: Stage) -> None:
    """The user names a cue and an answer, and then tells things in which the cue comes up now and then."""
    word, answer = stage.own_content(lambda: _cue_and_answer(stage))
    stage.ask(stage.form(_ASKED, (word,), (answer,)))
    stage.reply(("okay",))
    stage.wait(400, 1500)
    count = stage.between(4, 9)
    # The last line is without the cue: the user goes on after each one.
    for place in range(count):
        has_cue = place < count - 1 and stage.chance(0.5)
        talk = stage.user(_line(stage, word, has_cue=has_cue))
        _answer_cues(stage, talk, word, answer)
        stage.wait(20, 250)


def _answer_cues(stage: Stage, talk: Talk, cue_word: str, answer: str) -> None:
    for word, (_, end) in zip(talk.phrase.words, talk.phrase.spans_ms, strict=True):
        if word == cue_word:
            ended = talk.start_ms + end
            stage.due("cue", ((answer,),), (ended, ended + WINDOW_MS))
            stage.say((answer,), turn_of(ended - 1) + HEARD_AFTER)


def _line(stage: Stage, cue_word: str, *, has_cue: bool) -> Words:
    """Draw a statement with or without the cue; the cue is put in place of a word of its kind."""
    words = statement(stage)
    if not has_cue:
        while cue_word in words:
            words = statement(stage)
        return words
    theme = next(each for each in (THEMES["colours"], THEMES["objects"]) if cue_word in each)
    while not any(word in theme for word in words):
        words = statement(stage)
    return tuple(cue_word if word in theme else word for word in words)


def _cue_and_answer(stage: Stage) -> Words:
    """A cue that statements can hold, and another word that they never hold beside it."""
    cue_word = stage.one_of((*THEMES["colours"], *THEMES["objects"]))
    answer = stage.one_of([word for word in ECHOED if word != cue_word])
    return cue_word, answer
