"""Speaking about what is seen, when it is seen: counting repetitions, announcing events, start and stop of an action.

After the three video suites of Thinking Machines' post: RepCount-A online, ProactiveVideoQA, and Charades with spoken
start and stop. Films are drawn, so figures are not comparable with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import number_words
from microturn.interaction_model.training.figure import ACTIONS, Action
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.stage import REPLY_AFTER, REPLY_WINDOW_MS, Forms, Stage, turn_of
from microturn.interaction_model.training.video import (
    COLOURS,
    HEIGHT,
    SHAPES,
    WIDTH,
    Movement,
    RenderedFilm,
    Span,
    Stretch,
    draw_body,
    draw_look,
    draw_shade,
)

FILM_MS = 120_000
"""Things that stay until the end of a scene stay this long; longer than any scene."""
MOST_REPETITIONS = 12

_PLURALS: dict[Action, str] = {"squat": "squats", "jump": "jumps", "push": "pushes", "wave": "waves"}
_COUNT = Forms(
    train=(
        "count the {}",
        "please count my {}",
        "can you count my {}",
        "watch me and count my {}",
        "i want you to count the {}",
        "look and count the {}",
        "start to count my {}",
        "how many {} do you see count all",
    ),
    test=("watch me and count the {} you see",),
)
_SPAN = Forms(
    train=(
        "say start when the person starts to {0} and stop when it stops",
        "say start and stop when i {0}",
        "watch me {0} and say start and stop",
        "can you say start and stop when the person does a {0}",
        "when you see a {0} say start and then say stop",
        "look and tell me start and stop when you see a {0}",
        "i will {0} say start and stop",
    ),
    test=("watch me and say start when i {0} and then stop",),
)
_APPEARS = Forms(
    train=(
        "tell me when you see a {} {}",
        "tell me when there's a {} {}",
        "watch for a {} {}",
        "say now when you see a {} {}",
        "can you tell me when a {} {} is here",
        "say now when there is a {} {}",
        "look for a {} {} and tell me",
        "i want to see a {} {} tell me when",
    ),
    test=("watch and tell me when a {} {} is there",),
)
_TURNS = Forms(
    train=(
        "tell me when the {} is {}",
        "watch the {} and tell me when it is {}",
        "say now when the {} is {}",
        "can you tell me when the {} is {}",
    ),
    test=("look and say when the {} is {}",),
)
_MOVES = Forms(
    train=(
        "tell me when the {} is on the {}",
        "tell me when the {} moves to the {}",
        "say now when the {} is on the {}",
        "can you tell me when the {} is on the {}",
    ),
    test=("say when you see the {} on the {}",),
)
_DESCRIBE = Forms(
    train=(
        "watch and tell me what you see",
        "tell me what is new",
        "tell me all you see",
        "can you tell me what you see here",
        "watch and say what is new",
    ),
    test=("look and say what is new here",),
)


def repetitions(stage: Stage) -> None:
    """The assistant counts aloud what a figure does, with jitter and pauses; films end with a rest.

    Something else that the figure does before is not counted.
    """
    action = stage.one_of(ACTIONS)
    _ask(stage, stage.form(_COUNT, (_PLURALS[action],)))
    others, free = _other_action(stage, action, share=0.25)
    cycles = _cycles(stage, free + stage.between(800, 2500))
    for number, (begin, end) in enumerate(cycles, start=1):
        stage.moment("repetition", begin, end)
        _say_seen(stage, number_words(number), end, kind="count")
    stage.now_ms = max(cycles[-1][1] + stage.between(800, 2500), stage.free_ms)
    stage.film = _figure_film(stage, (*others, Movement(action, tuple(cycles))))


def action_span(stage: Stage) -> None:
    """The assistant says "start" and "stop" as a figure starts and stops; another action before it is let pass."""
    action = stage.one_of(ACTIONS)
    _ask(stage, stage.form(_SPAN, (action,)))
    others, free = _other_action(stage, action, share=0.4)
    begin = free + stage.between(1500, 6000)
    # Lengths of Charades-STA's test queries: mean 8.0 s, median 7.1 s; a log-normal with this median and spread.
    length = min(16_000, max(2500, round(7100 * float(stage.rng.lognormal(0.0, 0.49)))))
    cycles = _back_to_back(stage, begin, begin + length)
    end = cycles[-1][1]
    stage.moment("action", begin, end)
    _say_seen(stage, ("start",), begin, kind="span")
    # One micro-turn of rest is needed to tell the end from the turn of a cycle.
    _say_seen(stage, ("stop",), end + MICRO_TURN_MS, kind="span")
    stage.now_ms = end + stage.between(1500, 3000)
    stage.film = _figure_film(stage, (*others, Movement(action, tuple(cycles))))


def appearance(stage: Stage) -> None:
    """A thing of one colour and shape is awaited; other things come before it, and now and then it never comes."""
    colour, shape = stage.own_content(lambda: (stage.one_of(COLOURS), stage.one_of(SHAPES)))
    _ask(stage, stage.form(_APPEARS, (colour,), (shape,)))
    things = []
    never = stage.chance(0.15)
    for _ in range(stage.between(int(never), 2)):
        span = _next_span(stage)
        things.append(_thing(stage, span, *_another(stage, colour, shape)))
    if not never:
        span = _next_span(stage)
        things.append(_thing(stage, span, colour, shape))
        _announce(stage, ("now",), span)
    _show(stage, things)


def change_of_colour(stage: Stage) -> None:
    """A thing changes its colour, perhaps first to another one than the awaited."""
    shape = stage.one_of(SHAPES)
    order = [COLOURS[place] for place in stage.rng.permutation(len(COLOURS))[: stage.between(2, 3)]]
    _ask(stage, stage.form(_TURNS, (shape,), (order[-1],)))
    things, begin = [], 0
    place = _place(stage)
    radius = float(stage.rng.uniform(12, 20))
    for colour in order:
        end = FILM_MS if colour == order[-1] else max(begin, stage.now_ms) + stage.between(1500, 5000)
        shade = draw_shade(stage.rng, stage.split, colour)
        things.append(Stretch((begin, end), shape, shade, (place, place), radius))
        begin = end
    changed = things[-1].span[0]
    _announce(stage, ("now",), (changed, changed + 4000))
    _show(stage, things)


def change_of_side(stage: Stage) -> None:
    """A thing rests on one side of the picture and crosses to the other one."""
    shape = stage.one_of(SHAPES)
    side = stage.one_of(("left", "right"))
    _ask(stage, stage.form(_MOVES, (shape,), (side,)))
    leaves = stage.now_ms + stage.between(1500, 6000)
    arrives = leaves + stage.between(800, 2000)
    height = float(stage.rng.uniform(35, HEIGHT - 35))
    ends = (WIDTH * 0.2, WIDTH * 0.8) if side == "right" else (WIDTH * 0.8, WIDTH * 0.2)
    first, second = ((x, height) for x in ends)
    shade = draw_shade(stage.rng, stage.split, stage.one_of(COLOURS))
    legs = (
        ((0, leaves), first, first),
        ((leaves, arrives), first, second),
        ((arrives, FILM_MS), second, second),
    )
    radius = float(stage.rng.uniform(10, 16))
    things = [Stretch(span, shape, shade, (start, stop), radius) for span, start, stop in legs]
    stage.now_ms = arrives
    # The thing is half across at the middle of its way; being there is what was asked for.
    crossed = (leaves + arrives) // 2
    _announce(stage, ("now",), (crossed, crossed + 4000))
    _show(stage, things)


def description(stage: Stage) -> None:
    """Each new thing is named by colour and shape while it can be seen."""
    _ask(stage, stage.form(_DESCRIBE))
    things = []
    for _ in range(stage.between(1, 4)):
        span = _next_span(stage)
        colour, shape = stage.own_content(lambda: (stage.one_of(COLOURS), stage.one_of(SHAPES)))
        things.append(_thing(stage, span, colour, shape))
        _announce(stage, (colour, shape), span)
    _show(stage, things)


def looking_on(stage: Stage) -> None:
    """Much happens and nobody asked: things come and go beside a figure that does one action after another.

    Nothing is said. There is much to learn seeing from, see `sights`.
    """
    end = stage.now_ms + stage.between(15_000, 30_000)
    things = [thing for _ in range(stage.between(1, 3)) for thing in _coming_and_going(stage, end)]
    look = draw_look(stage.rng, stage.split)
    if stage.chance(0.7):
        body, movements = draw_body(stage.rng, stage.split), tuple(_one_after_another(stage, end))
        stage.film = RenderedFilm(look, tuple(things), body, movements)
    else:
        stage.film = RenderedFilm(look, tuple(things))
    stage.now_ms = end


def idle_film(stage: Stage) -> RenderedFilm:
    """A film in which nothing happens that anyone asked about, for tasks that are not about films."""
    movement = Movement(stage.one_of(ACTIONS), tuple(_cycles(stage, stage.between(1000, 5000))))
    return _figure_film(stage, (movement,))


def _ask(stage: Stage, words: Words) -> None:
    stage.ask(words)
    stage.reply(("okay",))


def _say_seen(stage: Stage, words: Words, seen_ms: int, *, kind: str) -> None:
    """Say something in the micro-turn after the one in which it was to be seen."""
    stage.due(kind, (words,), (seen_ms, seen_ms + REPLY_WINDOW_MS))
    stage.say(words, turn_of(seen_ms - 1) + REPLY_AFTER)


def _announce(stage: Stage, words: Words, span: Span) -> None:
    """Say what an event asks for; it is due as long as the event's span lasts."""
    stage.moment("event", *span)
    stage.due("event", (words,), span)
    stage.say(words, turn_of(span[0]) + REPLY_AFTER)
    stage.now_ms = max(stage.now_ms, span[1], stage.free_ms)


def _show(stage: Stage, things: list[Stretch]) -> None:
    stage.film = RenderedFilm(draw_look(stage.rng, stage.split), tuple(things))
    stage.now_ms += stage.between(500, 1500)


def _other_action(stage: Stage, action: Action, *, share: float) -> tuple[tuple[Movement, ...], int]:
    """In a share of scenes the figure first does something else; return that, and when it is at rest again."""
    if not stage.chance(share):
        return (), stage.now_ms
    other = stage.one_of([each for each in ACTIONS if each != action])
    begin = stage.now_ms + stage.between(500, 2000)
    end = begin + stage.between(2000, 5000)
    return (Movement(other, tuple(_back_to_back(stage, begin, end))),), end


def _coming_and_going(stage: Stage, until_ms: int) -> Iterator[Stretch]:
    """Things of all kinds, one at a time."""
    begin = stage.now_ms + stage.between(0, 1500)
    while begin < until_ms:
        end = begin + stage.between(600, 2500)
        yield _thing(stage, (begin, end), stage.one_of(COLOURS), stage.one_of(SHAPES))
        begin = end + stage.between(0, 1500)


def _one_after_another(stage: Stage, until_ms: int) -> Iterator[Movement]:
    """Actions with rests between them."""
    begin = stage.now_ms + stage.between(300, 1500)
    while begin < until_ms:
        cycles = _back_to_back(stage, begin, begin + stage.between(900, 5000))
        yield Movement(stage.one_of(ACTIONS), tuple(cycles))
        begin = cycles[-1][1] + stage.between(400, 2000)


def _figure_film(stage: Stage, movements: tuple[Movement, ...]) -> RenderedFilm:
    things = (_passer_by(stage),) if stage.chance(0.4) else ()
    look, body = draw_look(stage.rng, stage.split), draw_body(stage.rng, stage.split)
    return RenderedFilm(look, things, body, movements)


def _passer_by(stage: Stage) -> Stretch:
    """A thing that crosses the background, so that not everything that moves is the figure."""
    begin = stage.between(0, 8000)
    height = float(stage.rng.uniform(15, 50))
    path = ((-20.0, height), (WIDTH + 20.0, height))
    shade = draw_shade(stage.rng, stage.split, stage.one_of(COLOURS))
    return Stretch((begin, begin + stage.between(2000, 9000)), stage.one_of(SHAPES), shade, path, 8.0)


def _cycles(stage: Stage, begin: int) -> list[Span]:
    """Repetitions with a tempo of their own, 15 % of jitter and now and then a rest between two."""
    tempo = stage.between(900, 2200)
    cycles = []
    for _ in range(stage.between(2, MOST_REPETITIONS)):
        end = begin + round(tempo * float(stage.rng.uniform(0.85, 1.15)))
        cycles.append((begin, end))
        begin = end + (stage.between(400, 1800) if stage.chance(0.15) else stage.between(0, 150))
    return cycles


def _back_to_back(stage: Stage, begin: int, end: int) -> list[Span]:
    """Cycles without rests that fill a time."""
    count = max(1, round((end - begin) / stage.between(900, 1800)))
    edges = [begin + (end - begin) * place // count for place in range(count + 1)]
    return list(pairwise(edges))


def _next_span(stage: Stage) -> Span:
    begin = stage.now_ms + stage.between(1000, 4000)
    stage.now_ms = begin + stage.between(2000, 5000)
    return begin, stage.now_ms


def _place(stage: Stage) -> tuple[float, float]:
    return float(stage.rng.uniform(30, WIDTH - 30)), float(stage.rng.uniform(30, HEIGHT - 30))


def _thing(stage: Stage, span: Span, colour: str, shape: str) -> Stretch:
    shade = draw_shade(stage.rng, stage.split, colour)
    form = next(each for each in SHAPES if each == shape)
    path = (_place(stage), _place(stage)) if stage.chance(0.5) else (_place(stage),) * 2
    return Stretch(span, form, shade, (path[0], path[1]), float(stage.rng.uniform(12, 20)))


def _another(stage: Stage, colour: str, shape: str) -> tuple[str, str]:
    while (other := (stage.one_of(COLOURS), stage.one_of(SHAPES))) == (colour, shape):
        pass
    return other
