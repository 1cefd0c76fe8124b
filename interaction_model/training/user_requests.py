"""What a user of the small world can ask in one line, and the right answer to it.

A request knows after which of its words it is plainly unfinished, so that a thinking pause can be put there: up to
such a place it is never a request of its own, or nobody could know that more is to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES, number_words
from microturn.interaction_model.training.stage import Forms, Stage


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the user that wants one answer."""

    words: Words
    answer: Words
    open_after: range
    """Numbers of words after which the line is plainly unfinished."""


Draw = Callable[[Stage], Request]

ECHOED: Words = tuple(
    word
    for theme in (
        "units",
        "teens",
        "tens",
        "colours",
        "objects",
        "shapes",
        "fruits",
        "rooms",
        "days",
        "cities",
        "results",
    )
    for word in THEMES[theme]
)
"""Words that are said back."""
THINGS = {"banana": "yellow", "lemon": "yellow", "cherry": "red", "grape": "purple", "snow": "white"}
"""Things of one colour."""
WEEK: Words = THEMES["days"][:7]

_ECHO = Forms(
    train=(
        "say {}",
        "please say {}",
        "can you say {}",
        "i want you to say {}",
        "tell me {}",
        "would you say {}",
        "let's hear {}",
    ),
    test=("now say {}", "will you say {}"),
)
_SUM = Forms(
    train=(
        "what is {} and {}",
        "how much is {} and {}",
        "tell me what is {} and {}",
        "can you tell me {} and {}",
        "how many are {} and {}",
        "i want {} and {}",
    ),
    test=("tell me how much is {} and {}",),
)
_LESS = Forms(
    train=(
        "what is {} less {}",
        "how much is {} less {}",
        "tell me what is {} less {}",
        "can you tell me {} less {}",
        "how many are {} less {}",
    ),
    test=("tell me how much is {} less {}",),
)
_AFTER = Forms(
    train=(
        "what is after {}",
        "what is next after {}",
        "tell me what is next after {}",
        "what do you say after {}",
        "can you tell me what is after {}",
    ),
    test=("tell me what is after {}",),
)
_EITHER = Forms(
    train=(
        "is the {} {} or {}",
        "is a {} {} or {}",
        "can you tell me is the {} {} or {}",
        "tell me is a {} {} or {}",
    ),
    test=("tell me is the {} {} or {}",),
)
_WHETHER = Forms(
    train=("is the {} {}", "is a {} {}", "can you tell me is the {} {}", "tell me is a {} {}"),
    test=("tell me is the {} {}",),
)
_COLOUR = Forms(
    train=(
        "what colour is the {}",
        "what colour is a {}",
        "tell me what colour is a {}",
        "can you tell me what colour is the {}",
    ),
    test=("tell me what colour is the {}",),
)
_ORDER = Forms(
    train=(
        "is {} after {}",
        "can you say is {} after {}",
        "can you tell me is {} after {}",
        "do you see {} after {}",
    ),
    test=("tell me is {} after {}",),
)
_COUNT = Forms(
    train=(
        "count to {}",
        "please count to {}",
        "i want you to count to {}",
        "let's count to {}",
        "would you count to {}",
    ),
    test=("can you count to {}",),
)


def echo(stage: Stage) -> Request:
    """Say one to four words back. Single words are of both splits: each has to be learned."""
    count = stage.one_of((1, 2, 2, 3, 3, 4))
    if count == 1:
        content: Words = (stage.one_of(ECHOED),)
    else:
        content = stage.own_content(lambda: tuple(stage.one_of(ECHOED) for _ in range(count)))
    words = stage.form(_ECHO, content)
    return Request(words, content, range(1, len(words) - count + 1))


def addition(stage: Stage) -> Request:
    """Add two numbers up to 20."""
    first, second = _pair(stage, "plus")
    return _last_open(
        stage.form(_SUM, number_words(first), number_words(second)), number_words(first + second)
    )


def difference(stage: Stage) -> Request:
    """Take a number away from one that is not smaller, both up to 20."""
    small, large = sorted(_pair(stage, "less"))
    return _last_open(
        stage.form(_LESS, number_words(large), number_words(small)), number_words(large - small)
    )


def successor(stage: Stage) -> Request:
    """Say what is after a number below 20 or after a day. The wording alone is held out: each step must be learned."""
    if stage.chance(0.7):
        number = stage.between(0, 19)
        return _last_open(stage.form(_AFTER, number_words(number)), number_words(number + 1))
    day = stage.between(0, 6)
    return _last_open(stage.form(_AFTER, (WEEK[day],)), (WEEK[(day + 1) % 7],))


def alternative(stage: Stage) -> Request:
    """Choose the colour of a thing from two."""
    thing, right, wrong = stage.own_content(lambda: _thing_and_colours(stage))
    first, second = (right, wrong) if stage.chance(0.5) else (wrong, right)
    words = stage.form(_EITHER, (thing,), (first,), (second,))
    # With its first colour the line is a request to be answered with yes or no.
    return Request(words, (right,), range(1, len(words) - 2))


def colour_check(stage: Stage) -> Request:
    """Say whether a thing has a colour."""
    thing, right, wrong = stage.own_content(lambda: _thing_and_colours(stage))
    asked = right if stage.chance(0.5) else wrong
    return _last_open(stage.form(_WHETHER, (thing,), (asked,)), ("yes" if asked == right else "no",))


def colour(stage: Stage) -> Request:
    """Say which colour a thing has. The wording alone is held out: each fact must be learned."""
    thing = stage.one_of(tuple(THINGS))
    return _last_open(stage.form(_COLOUR, (thing,)), (THINGS[thing],))


def order(stage: Stage) -> Request:
    """Say whether a number is after another one."""
    first, second = _pair(stage, "after")
    words = stage.form(_ORDER, number_words(first), number_words(second))
    return _last_open(words, ("yes" if first > second else "no",))


def counting(stage: Stage) -> Request:
    """Count aloud from one; long enough to be interrupted."""
    last = stage.between(8, 20)
    counted = tuple(word for number in range(1, last + 1) for word in number_words(number))
    return _last_open(stage.form(_COUNT, number_words(last)), counted)


SHORT: tuple[Draw, ...] = (
    echo,
    addition,
    difference,
    successor,
    alternative,
    colour_check,
    colour,
    order,
)
"""Requests with an answer of a few words."""


def _last_open(words: Words, answer: Words) -> Request:
    """A request that is unfinished up to its last word."""
    return Request(words, answer, range(1, len(words)))


def _pair(stage: Stage, operation: str) -> tuple[int, int]:
    """Draw two numbers up to 20, each said in one word."""
    content = stage.own_content(lambda: (operation, str(stage.between(0, 20)), str(stage.between(0, 20))))
    return int(content[1]), int(content[2])


def _thing_and_colours(stage: Stage) -> Words:
    thing = stage.one_of(tuple(THINGS))
    wrong = stage.one_of([colour for colour in THEMES["colours"] if colour != THINGS[thing]])
    return thing, THINGS[thing], wrong
