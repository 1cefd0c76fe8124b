"""Plain conversations: the user asks, spoken or typed, and is answered at once; what is told is remembered.

Statements and requests come with times between them in which the assistant has nothing to say.
"""

from __future__ import annotations

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES
from microturn.interaction_model.training.stage import Forms, Stage
from microturn.interaction_model.training.user_requests import SHORT, Request

_WRITTEN_SHARE = 0.08
_GREETINGS: dict[Words, Words] = {
    ("hello",): ("hello",),
    ("good", "morning"): ("good", "morning"),
    ("good", "evening"): ("good", "evening"),
    ("goodbye",): ("goodbye",),
    ("thanks",): ("okay",),
}
_PLACED = Forms(
    train=(
        "the {} is in the {}",
        "i put the {} in the {}",
        "you see the {} in the {}",
        "i see the {} in the {}",
        "my {} is in the {}",
    ),
    test=("there's a {} in the {}",),
)
_WHERE = Forms(
    train=(
        "where is the {}",
        "where is the {} now",
        "can you tell me where the {} is",
        "do you see where the {} is",
        "where did i put the {}",
    ),
    test=("tell me where the {} is",),
)
_SEEN = Forms(
    train=(
        "i see a {} {}",
        "there's a {} {} here",
        "i got a new {} {}",
        "we want a {} {}",
        "my {} {} is old",
        "there's my {} {} on the table",
        "we do not see the {} {}",
        "it was a small {} {}",
        "i think it is a {} {}",
    ),
    test=("i need a {} {} today", "you see the {} {} there"),
)
_WENT = Forms(
    train=(
        "it was {} in {}",
        "it is {} here and not in {}",
        "i think it was {} in {}",
        "we hear it is {} in {}",
    ),
    test=("i hear that it is {} in {}",),
)


def conversation(stage: Stage) -> None:
    """One to four requests, each answered, with pauses between them."""
    if stage.chance(0.2):
        greeting = stage.one_of(tuple(_GREETINGS))
        ask(stage, Request(greeting, _GREETINGS[greeting], range(0)))
        stage.wait(300, 1500)
    for _ in range(stage.between(1, 4)):
        ask(stage, stage.one_of(SHORT)(stage))
        stage.wait(300, 2500)


def memory(stage: Stage) -> None:
    """The user says where things are, and asks for one of them later."""
    places: dict[str, str] = {}
    for _ in range(stage.between(1, 3)):
        thing, room = stage.own_content(
            lambda: (stage.one_of(THEMES["objects"]), stage.one_of(THEMES["rooms"]))
        )
        places[thing] = room
        stage.user(stage.form(_PLACED, (thing,), (room,)))
        stage.reply(("okay",))
        stage.wait(300, 1200)
    if stage.chance(0.4):
        ask(stage, stage.one_of(SHORT)(stage))
        stage.wait(300, 1200)
    asked = stage.one_of(tuple(places))
    ask(stage, Request(stage.form(_WHERE, (asked,)), ("in", "the", places[asked]), range(0)))


def ask(stage: Stage, request: Request) -> None:
    """Let the user make a request, mostly spoken, and answer it."""
    stage.ask(request.words, written_share=_WRITTEN_SHARE)
    stage.reply(request.answer)


def statement(stage: Stage) -> Words:
    """Draw a line that wants no answer."""
    if stage.chance(0.75):
        words = (stage.one_of(THEMES["colours"]),), (stage.one_of(THEMES["objects"]),)
        return stage.form(_SEEN, *words)
    return stage.form(
        _WENT, (stage.one_of(("sunny", "cloudy", "warm", "cold")),), (stage.one_of(THEMES["cities"]),)
    )
