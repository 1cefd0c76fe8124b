"""Speaking at times that the user set: once, again and again, and saying how long something took.

After TimeSpeak of Thinking Machines' post on interaction models, whose items and windows are not public: these are
ours, and figures are not comparable. Each length of time has to be learned; what is said after it is held out.
"""

from __future__ import annotations

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import number_words
from microturn.interaction_model.training.conversations import ask
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.stage import Forms, Stage
from microturn.interaction_model.training.user_requests import ECHOED, SHORT, Request

WINDOW_MS = 400
"""A word is on time within two micro-turns either way; our choice."""
DELAYS_S = range(2, 13)
"""Lengths of time until a word, in seconds."""
PERIODS_S = range(2, 9)
"""Periods of words that are said again and again, in seconds."""

_ONCE = Forms(
    train=(
        "in {1} seconds say {0}",
        "say {0} in {1} seconds",
        "please say {0} in {1} seconds",
        "i want you to say {0} in {1} seconds",
        "tell me {0} in {1} seconds",
        "wait {1} seconds and say {0}",
        "would you say {0} in {1} seconds",
    ),
    test=("can you say {0} in {1} seconds",),
)
_EVERY = Forms(
    train=(
        "say {0} every {1} seconds",
        "every {1} seconds say {0}",
        "say {0} every {1} seconds until i say stop",
        "can you say {0} every {1} seconds",
        "i want you to say {0} every {1} seconds",
        "tell me {0} every {1} seconds",
        "keep on with {0} every {1} seconds",
    ),
    test=("every {1} seconds say {0} until i say stop",),
)
_BREATHE = Forms(
    train=("remind me to breathe out every {} seconds", "every {} seconds remind me to breathe out"),
    test=("remind me every {} seconds to breathe out",),
)
_ENDS = Forms(
    train=("stop", "okay stop", "you can stop", "stop it", "stop please", "that is all stop"),
    test=("please stop", "stop now"),
)
_BEGINS = Forms(
    train=("start the timer", "start the clock", "start a clock", "can you start the timer"),
    test=("please start a timer",),
)
_HOW_LONG = Forms(
    train=(
        "how long was it",
        "how many seconds was that",
        "how long did it take",
        "can you tell me how long it was",
        "how much time was that",
    ),
    test=("tell me how long that was",),
)


def once(stage: Stage) -> None:
    """A word after so many seconds, with other talk before it if there is time."""
    delay, word = _length_and_word(stage, DELAYS_S)
    stage.ask(stage.form(_ONCE, word, number_words(delay)))
    due = stage.now_ms + 1000 * delay
    stage.reply(("okay",))
    if delay >= 10 and stage.chance(0.5):
        stage.wait(300, 1000)
        ask(stage, stage.one_of(SHORT)(stage))
    _say_at(stage, word, due)
    stage.now_ms = stage.free_ms


def every(stage: Stage) -> None:
    """A reminder every so many seconds, until the user stops it."""
    period, words = _length_and_word(stage, PERIODS_S)
    if stage.chance(0.4):
        words = ("breathe", "out")
    wording = stage.form(_BREATHE, number_words(period)) if len(words) == 2 else ()
    stage.ask(wording or stage.form(_EVERY, words, number_words(period)))
    begin = stage.now_ms
    stage.reply(("okay",))
    count = stage.between(2, 4)
    for tick in range(1, count + 1):
        _say_at(stage, words, begin + 1000 * period * tick)
    # The stop is well after one reminder and well before the next, so that it is clear which ones are due.
    after = stage.between(500, max(500, 1000 * period - 1600))
    stage.now_ms = max(begin + 1000 * period * count + after, stage.free_ms)
    stage.turn(stage.form(_ENDS))
    stage.reply(("okay",))
    stage.wait(1000 * period, 1000 * period + 1000)


def how_long(stage: Stage) -> None:
    """The user starts a timer and asks later how long it was."""
    stage.ask(stage.form(_BEGINS))
    begin = stage.now_ms
    stage.reply(("okay",))
    seconds = stage.between(2, 20)
    # Close enough to whole seconds that the right number is not in doubt.
    stage.now_ms = max(begin + 1000 * seconds + stage.between(-200, 200), stage.free_ms + 200)
    ask(stage, Request(stage.form(_HOW_LONG), (*number_words(seconds), "seconds"), range(0)))


def _length_and_word(stage: Stage, lengths: range) -> tuple[int, Words]:
    """Draw seconds, and the word that belongs to them."""
    seconds, word = stage.own_content(lambda: (str(stage.one_of(lengths)), stage.one_of(ECHOED)))
    return int(seconds), (word,)


def _say_at(stage: Stage, words: Words, due_ms: int) -> None:
    """Say words so that they are heard as near to a time as the beat allows."""
    stage.due("clock", (words,), (due_ms - WINDOW_MS, due_ms + WINDOW_MS))
    stage.say(words, round(due_ms / MICRO_TURN_MS) - 1)
