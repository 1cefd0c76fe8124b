"""What was said in a scene, scored by the scene's truth: the figures of every suite, one list of marks for each.

The truth is the scene's events, never its targets. Answers are compared word by word, without a judge. A figure of
many scenes is the mean of its marks; `joined` puts scenes together. Figures are of these drawn scenes only, and not
comparable with those of the suites that they follow.

What is said is known by its words, the micro-turns in which they begin, and those in which they are broken off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from microturn.interaction_model.native.emission import Words, read_emission
from microturn.interaction_model.native.vocabulary import number_of
from microturn.interaction_model.training.scene import Due, Moment, Scene
from microturn.interaction_model.training.scorers import (
    Span,
    SpokenWord,
    count_error,
    cue_score,
    off_by_one,
    online_count,
    pauc,
    reply_latency,
    stop_latency,
    temporal_iou,
)
from microturn.interaction_model.training.stage import heard_ms

Marks = Mapping[str, Sequence[float]]
"""Marks by figure; a figure without an occasion is absent."""

_ANSWERED_WITHIN_S = 0.8
"""How long after other people's talk a word still counts as an answer to it; our choice."""


def spoken_words(outputs: Sequence[Sequence[int]], own_word_ms: Callable[[str], int]) -> list[SpokenWord]:
    """Return when the words of emitted tokens are heard: each from its micro-turn on, one after the other.

    Words that are broken off end there; those that have not begun by then are not heard at all.
    """
    words: list[SpokenWord] = []
    free = 0
    for turn, tokens in enumerate(outputs):
        emission, now = read_emission(tokens), heard_ms(turn)
        if emission.hushes and free > now:
            free = now
            words = [
                replace(word, end=min(word.end, now / 1000)) for word in words if 1000 * word.begin < now
            ]
        for word in emission.said:
            begin = max(now, free)
            free = begin + own_word_ms(word)
            words.append(SpokenWord(word, begin / 1000, free / 1000))
    return words


def examine(scene: Scene, said: Sequence[SpokenWord]) -> Marks:
    """Score what was said in a scene; `said` is in order of time, in seconds from the scene's begin."""
    marks: dict[str, list[float]] = defaultdict(list)
    for suite in (_answers, _turns, _cues, _repetitions, _action, _events):
        for figure, mark in suite(scene, said):
            marks[figure].append(mark)
    return marks


def joined(scenes: Iterable[Marks]) -> Marks:
    """Put the marks of several scenes together."""
    total: dict[str, list[float]] = defaultdict(list)
    for marks in scenes:
        for figure, values in marks.items():
            total[figure] += values
    return total


_Figures = Iterable[tuple[str, float]]


def _answers(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    """Whether each thing due was said in its window, by kind; and how soon the user was replied to."""
    claims = _claims(scene.due, said)
    for due, place in zip(scene.due, claims, strict=True):
        if due.kind != "event":
            yield f"{due.kind}_hit", float(place is not None)
        if due.kind == "reply" and place is not None:
            latency = reply_latency(said[place : place + 1], due.window_ms[0] / 1000)
            yield "reply_latency_s", latency or 0.0


def _turns(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    """Who takes the floor where it is not theirs; how soon it is given up; whether a hum leaves it alone."""
    for moment in scene.moments:
        begin, end = _seconds(moment)
        match moment.kind:
            case "pause":
                yield "pause_taken", _is_spoken_in(said, begin, end)
            case "others":
                yield "others_taken", _is_spoken_in(said, begin, end + _ANSWERED_WITHIN_S)
            case "interruption":
                yield "stop_latency_s", stop_latency(said, begin)
            case "backchannel":
                yield "backchannel_held", float(any(word.begin > end for word in said))


def _cues(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    """Words that answer no cue and nothing else that is due, by the minute; hits are among `_answers`."""
    windows = [_window(due) for due in scene.due if due.kind == "cue"]
    if not windows:
        return
    others = [due for due in scene.due if due.kind != "cue"]
    claimed = {
        place + offset
        for due, place in zip(others, _claims(others, said), strict=True)
        if place is not None
        for offset in range(max(len(answer) for answer in due.answers))
    }
    left = [word.begin for place, word in enumerate(said) if place not in claimed]
    score = cue_score(left, windows, heard_ms(scene.micro_turns - 1) / 1000)
    if score.false_alarms_per_minute is not None:
        yield "cue_false_alarms_per_minute", score.false_alarms_per_minute


def _repetitions(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    ends = [end for _, end in _spans(scene, "repetition")]
    if not ends:
        return
    numbers = [(word.begin, number) for word in said if (number := number_of((word.word,))) is not None]
    count = online_count(numbers, ends)
    yield "count_obo", float(off_by_one(count, len(ends)))
    yield "count_mae", count_error(count, len(ends))


def _action(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    for label in _spans(scene, "action"):
        start = next((word.begin for word in said if word.word == "start"), None)
        stop = None
        if start is not None:
            stop = next((word.begin for word in said if word.word == "stop" and word.begin > start), None)
        yield "span_tiou", temporal_iou(None if start is None or stop is None else (start, stop), label)


def _events(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    """PAUC of each event; a mark of 1 is part of the answer, and 2 all of it in its order."""
    for due in scene.due:
        if due.kind == "event":
            begin, end = _window(due)
            inside = [word for word in said if begin <= word.begin <= end]
            words = tuple(word.word for word in inside)
            replies = [(word.begin, _mark(words[: place + 1], due)) for place, word in enumerate(inside)]
            yield "watch_pauc", pauc((begin, end), replies)


def _mark(words: Words, due: Due) -> int:
    if any(_place_of(answer, words) is not None for answer in due.answers):
        return 2
    return int(any(word in answer for word in words for answer in due.answers))


def _claims(dues: Sequence[Due], said: Sequence[SpokenWord]) -> list[int | None]:
    """For each thing due the place of the first word that says it in time; each word answers one thing at most."""
    words = tuple(word.word for word in said)
    taken: set[int] = set()
    claims: list[int | None] = []
    for due in dues:
        begin, end = _window(due)
        free = [place for place, word in enumerate(said) if begin <= word.begin <= end and place not in taken]
        claim = next((place for place in free if _says(words[place:], due)), None)
        if claim is not None:
            taken.add(claim)
        claims.append(claim)
    return claims


def _says(words: Words, due: Due) -> bool:
    return any(words[: len(answer)] == answer for answer in due.answers)


def _place_of(answer: Words, words: Words) -> int | None:
    places = range(len(words) - len(answer) + 1)
    return next((place for place in places if words[place : place + len(answer)] == answer), None)


def _is_spoken_in(said: Sequence[SpokenWord], begin: float, end: float) -> float:
    # A single word counts: the times are too short for the rule of turn-over rates, which lets a second pass.
    return float(any(begin < word.begin < end for word in said))


def _spans(scene: Scene, kind: str) -> list[Span]:
    return [_seconds(moment) for moment in scene.moments if moment.kind == kind]


def _seconds(moment: Moment) -> Span:
    return moment.start_ms / 1000, moment.end_ms / 1000


def _window(due: Due) -> Span:
    return due.window_ms[0] / 1000, due.window_ms[1] / 1000
