"""Who has the floor: thinking pauses, backchannels, interruptions, stories, and sound that is meant for nobody.

Pauses inside a turn last 0.3 to 1.0 s, as in Full-Duplex-Bench v1 (arXiv 2503.04721); the other figures are ours.
"""

from __future__ import annotations

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.training.conversations import ask, statement
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.stage import Forms, Stage, turn_of
from microturn.interaction_model.training.user_requests import SHORT, Request, counting

BACKCHANNEL_AFTER = 2
"""Micro-turns from the end of a sentence of a story to the assistant's backchannel: 400 ms and more of silence."""
BACKCHANNEL_REST_MS = 3000
"""Shortest time from one backchannel to the next."""

_LISTENERS: tuple[Words, ...] = (("yes",), ("okay",), ("hmm",), ("good",), ("uh", "hmm"))
_STOPS = Forms(
    train=("stop", "stop it", "no stop", "okay stop", "stop now please", "that is all", "no more"),
    test=("please stop", "stop now"),
)
_TURNS = Forms(
    train=("wait {}", "stop {}", "no {}", "okay stop {}", "wait wait {}", "no stop {}"),
    test=("sorry {}", "no wait {}"),
)
_STORY_BEGINS = Forms(
    train=("let's look", "i will tell you this", "i want to tell you this", "can i tell you this"),
    test=("i tell you this now",),
)
_STORY_ENDS = Forms(
    train=("that was it", "that is all", "that is all of it", "i think that was all"),
    test=("this was all of it",),
)


def thinking_pause(stage: Stage) -> None:
    """Requests with one or two pauses inside, which are waited out, and then answered."""
    for _ in range(stage.between(1, 2)):
        request = _with_places(stage)
        cuts = sorted({stage.one_of(request.open_after) for _ in range(stage.between(1, 2))})
        begin, start = stage.now_ms, 0
        for cut in cuts:
            filler = (stage.one_of(("um", "uh")),) if stage.chance(0.3) else ()
            stage.user((*request.words[start:cut], *filler))
            paused = stage.now_ms
            stage.wait(300, 1000)
            stage.moment("pause", paused, stage.now_ms)
            start = cut
        stage.user(request.words[start:])
        stage.moment("turn", begin, stage.now_ms)
        stage.reply(request.answer)
        stage.wait(400, 1500)


def user_backchannel(stage: Stage) -> None:
    """The user hums along to a long answer, which goes on."""
    begin, end = _long_answer(stage)
    stage.now_ms = begin
    while True:
        stage.wait(500, 1500)
        if stage.now_ms > end - 1500:
            break
        talk = stage.user(stage.one_of(_LISTENERS))
        stage.moment("backchannel", talk.start_ms, talk.end_ms)
    stage.now_ms = end


def interruption(stage: Stage) -> None:
    """The user breaks into a long answer: it stops, and a new request is answered."""
    begin, end = _long_answer(stage)
    stage.now_ms = stage.between(begin + 400, max(begin + 401, end - 800))
    stage.fall_silent(stage.now_ms)
    if stage.chance(0.4):
        talk = stage.user(stage.form(_STOPS))
        stage.moment("interruption", talk.start_ms, talk.end_ms)
        stage.wait(500, 2000)
        return
    request = stage.one_of(SHORT)(stage)
    talk = stage.user(stage.form(_TURNS, request.words))
    stage.moment("interruption", talk.start_ms, talk.end_ms)
    stage.reply(request.answer)


def story(stage: Stage) -> None:
    """A long tale with pauses between sentences, in which the assistant shows that it listens."""
    begin = stage.now_ms
    stage.user(stage.form(_STORY_BEGINS))
    listened = stage.now_ms - BACKCHANNEL_REST_MS
    for _ in range(stage.between(4, 8)):
        ended = stage.now_ms
        stage.wait(150, 1100)
        stage.moment("pause", ended, stage.now_ms)
        turn = turn_of(ended - 1) + BACKCHANNEL_AFTER
        # Given only when the whole micro-turn was still silent, which is known by then.
        if stage.now_ms >= (turn + 1) * MICRO_TURN_MS and ended - listened >= BACKCHANNEL_REST_MS:
            stage.backchannel(turn)
            listened = ended
        stage.user(statement(stage))
    stage.wait(100, 400)
    stage.user(stage.form(_STORY_ENDS))
    stage.moment("turn", begin, stage.now_ms)
    stage.reply(("okay", "thanks"), also=(("okay",),))


def bystanders(stage: Stage) -> None:
    """Other people talk, noise and music play; the user alone is answered.

    The user speaks first, so that the voice is known.
    """
    ask(stage, stage.one_of(SHORT)(stage))
    for _ in range(stage.between(1, 3)):
        stage.wait(300, 1500)
        if stage.chance(0.3):
            length = stage.between(1000, 4000)
            stage.noise(stage.one_of(("noise", "music", "click")), length, -stage.between(3, 15))
            stage.now_ms += length
        else:
            words = stage.one_of(SHORT)(stage).words if stage.chance(0.6) else statement(stage)
            stage.others(words, speaker=stage.between(1, 3))
    stage.wait(600, 1500)
    if stage.chance(0.6):
        ask(stage, stage.one_of(SHORT)(stage))


def quiet(stage: Stage) -> None:
    """Nobody speaks: nothing is said and nothing is written down."""
    for _ in range(stage.between(1, 4)):
        stage.wait(500, 2500)
        length = stage.between(300, 4000)
        stage.noise(stage.one_of(("noise", "music", "click")), length, -stage.between(0, 20))
        stage.now_ms += length


def _with_places(stage: Stage) -> Request:
    while not (request := stage.one_of(SHORT)(stage)).open_after:
        pass
    return request


def _long_answer(stage: Stage) -> tuple[int, int]:
    """Ask for a long answer; return when it begins and ends. Due is its first word, as the rest may be cut off."""
    request = counting(stage)
    stage.turn(request.words)
    stage.due("reply", (request.answer[:1],), stage.reply_window())
    return stage.say(request.answer)
