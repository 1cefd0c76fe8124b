"""What is beyond the model is handed to the background in words, and what comes back is woven in at a pause.

A result is said in the first micro-turn after it arrived in which neither the user nor the assistant has been
speaking, which is never over the user. The assistant does not know the answers itself: it repeats what it reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import THEMES, WORDS, number_words
from microturn.interaction_model.training.conversations import statement
from microturn.interaction_model.training.stage import (
    REPLY_AFTER,
    REPLY_WINDOW_MS,
    Forms,
    Stage,
    heard_ms,
    turn_of,
)
from microturn.interaction_model.training.user_requests import SHORT

_CHECKING: Words = ("i'll", "check")
_WEATHER = Forms(
    train=(
        "what is the weather in {} {}",
        "how is the weather in {} {}",
        "tell me the weather in {} {}",
        "how is the weather now in {} {}",
        "can you look up the weather in {} {}",
        "weather in {} {}",
    ),
    test=("check the weather in {} for {}",),
)
_TRIP = Forms(
    train=(
        "find a {} to {} {}",
        "book a {} to {} for {}",
        "i need a {} to {} {}",
        "get me a {} to {} {}",
        "look for a {} to {} {}",
        "i want to take a {} to {} on {}",
    ),
    test=("can you find a {} to {} for {}",),
)
_TABLE = Forms(
    train=("book a {} for {} {}", "i want a {} for {} {}", "get me a {} for {} {}", "i need a {} on {} {}"),
    test=("can you book a {} for {} {}",),
)
_PRICE = Forms(
    train=(
        "what is the price of a {} {}",
        "find the price of a {} {}",
        "how much is a {} {}",
        "look up the price of the {} {}",
        "tell me the price of a {} {}",
    ),
    test=("search for the price of a {} {}",),
)
_RECIPE = Forms(
    train=(
        "find a recipe with {} and {}",
        "i need a recipe with {} and {}",
        "get me a recipe for {} and {}",
        "look up a recipe with {} and {}",
    ),
    test=("search for a recipe with {} and {}",),
)
_AGAIN = Forms(
    train=("no make it {}", "no change it to {}", "sorry make it {}", "no i want {}", "wait make that {}"),
    test=("sorry i want {}",),
)
_NEVER_MIND = Forms(
    train=(
        "cancel it",
        "cancel that please",
        "no stop the search",
        "i do not need it now",
        "cancel the search",
        "stop that please",
    ),
    test=("please cancel the search",),
)

_WRITTEN_SHARE = 0.1
_FREE_RESULTS = 0.5
_SAYABLE = tuple(word for word in WORDS if word not in THEMES["fillers"])


@dataclass(frozen=True, slots=True)
class Errand:
    """A request for the background."""

    words: Words
    intent: Words
    """At most six words, so that it fits one micro-turn."""
    result: Words
    """What the background finds out."""


def errand(stage: Stage) -> None:
    """A task is handed over, small talk may go on, and the result is said when it is there."""
    task = _draw(stage)
    _hand_over(stage, task.words, task.intent)
    _bring_back(stage, task.result)


def cancelled_errand(stage: Stage) -> None:
    """The user calls a running task off; no result comes."""
    task = _draw(stage)
    _hand_over(stage, task.words, task.intent)
    stage.wait(600, 3000)
    stage.turn(stage.form(_NEVER_MIND))
    stage.cancel()
    stage.reply(("okay",))
    stage.wait(1000, 4000)


def corrected_errand(stage: Stage) -> None:
    """The user changes a running task: it is cancelled and handed over anew, and only the new result is said."""
    first, second = (_trip_content(stage) for _ in range(2))
    _hand_over(stage, stage.form(_TRIP, *_each(first)), first)
    stage.wait(400, 2500)
    stage.turn(stage.form(_AGAIN, (second[1],)))
    stage.cancel()
    _acknowledge(stage, (first[0], second[1], first[2]))
    _bring_back(stage, ("i", "found", "a", first[0], "to", second[1]))


def _hand_over(stage: Stage, words: Words, intent: Words) -> None:
    stage.ask(words, written_share=_WRITTEN_SHARE)
    _acknowledge(stage, intent)


def _acknowledge(stage: Stage, intent: Words) -> None:
    stage.delegate(intent)
    stage.reply(_CHECKING)


def _bring_back(stage: Stage, result: Words) -> None:
    """Let a result arrive, in silence or while the user talks, and say it at the next pause.

    Many results are unlike any other, so that what is read is said, and nothing is guessed.
    """
    if stage.chance(_FREE_RESULTS):
        result = _free_result(stage)
    if stage.chance(0.5):
        stage.wait(1000, 6000)
        turn = stage.background(result, stage.now_ms)
        _tell(stage, result, turn, turn)
        return
    stage.wait(600, 3000)
    begin = stage.now_ms
    request = stage.one_of(SHORT)(stage) if stage.chance(0.5) else None
    stage.user(request.words if request else statement(stage))
    turn = stage.background(result, stage.between(begin, stage.now_ms))
    if request:
        stage.reply(request.answer)
    # In the micro-turn after the one in which all else that is said ends.
    _tell(stage, result, turn, turn_of(stage.now_ms - 1) + REPLY_AFTER)


def _free_result(stage: Stage) -> Words:
    """Words at random, with numbers among them."""
    words = [stage.one_of(_SAYABLE) for _ in range(stage.between(2, 7))]
    if stage.chance(0.5):
        words[stage.between(0, len(words) - 1) :] = [
            *number_words(stage.between(0, 999)),
            stage.one_of(_SAYABLE),
        ]
    return tuple(words)


def _tell(stage: Stage, result: Words, arrived: int, pause: int) -> None:
    stage.due("result", (result,), (heard_ms(arrived), heard_ms(pause) + REPLY_WINDOW_MS))
    _, stage.now_ms = stage.say(result, pause)


def _draw(stage: Stage) -> Errand:
    return stage.one_of((_weather, _trip, _table, _price, _recipe))(stage)


def _weather(stage: Stage) -> Errand:
    city, day = stage.own_content(lambda: (stage.one_of(THEMES["cities"]), stage.one_of(THEMES["days"])))
    sky = stage.one_of(("sunny", "cloudy", "warm", "cold"))
    degrees = (*number_words(stage.between(1, 30)), "degrees")
    return Errand(
        stage.form(_WEATHER, (city,), (day,)), ("weather", city, day), ("it", "is", sky, "and", *degrees)
    )


def _trip(stage: Stage) -> Errand:
    content = _trip_content(stage)
    found = ("i", "found", "a", content[0], "to", content[1])
    return Errand(stage.form(_TRIP, *_each(content)), content, found)


def _trip_content(stage: Stage) -> Words:
    return stage.own_content(
        lambda: (
            stage.one_of(("flight", "train")),
            stage.one_of(THEMES["cities"]),
            stage.one_of(THEMES["days"]),
        )
    )


def _table(stage: Stage) -> Errand:
    content = stage.own_content(
        lambda: (
            stage.one_of(("restaurant", "doctor", "meeting")),
            stage.one_of(THEMES["days"]),
            stage.one_of(("morning", "noon", "evening")),
        )
    )
    return Errand(
        stage.form(_TABLE, *_each(content)), ("book", *content), ("it", "is", "booked", "for", content[1])
    )


def _price(stage: Stage) -> Errand:
    colour, thing = stage.own_content(
        lambda: (stage.one_of(THEMES["colours"]), stage.one_of(THEMES["objects"]))
    )
    price = number_words(stage.between(2, 99))
    return Errand(stage.form(_PRICE, (colour,), (thing,)), ("price", colour, thing), ("it", "is", *price))


def _recipe(stage: Stage) -> Errand:
    first, second = stage.own_content(lambda: _two_fruits(stage))
    found = ("i", "found", "a", "recipe", "with", first)
    return Errand(stage.form(_RECIPE, (first,), (second,)), ("recipe", first, second), found)


def _two_fruits(stage: Stage) -> Words:
    first, second = stage.rng.permutation(len(THEMES["fruits"]))[:2]
    return THEMES["fruits"][first], THEMES["fruits"][second]


def _each(content: Words) -> tuple[Words, ...]:
    return tuple((word,) for word in content)
