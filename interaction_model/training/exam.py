"""What was done in a scene, scored by the scene's truth: the figures of every suite, one list of marks for each.

The truth is the scene's events, never its targets. Answers are compared word by word, without a judge. A figure of
many scenes is the weighted mean of its marks. Figures are of these drawn scenes only, and not comparable with those
of the suites that they follow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import number_of
from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.decision_marks import decision_marks
from microturn.interaction_model.training.hearing_marks import hearing_marks
from microturn.interaction_model.training.marks import Mark, Marks
from microturn.interaction_model.training.scene import MICRO_TURN_MS, USER, Due, Moment, Scene
from microturn.interaction_model.training.scorers import (
    Span,
    SpokenWord,
    count_error,
    off_by_one,
    online_count,
    pauc,
    reply_latency,
    stop_latency,
    temporal_iou,
)
from microturn.interaction_model.training.sign_marks import sign_marks

_ANSWERED_WITHIN_S = 0.8
"""How long after other people's talk a word still counts as an answer to it; our choice."""
_HELD_WITHIN_S = 1.0
"""How soon after a hum of the user's the assistant's speech has to go on; our choice."""
_WORDS_APART_S = 0.05
"""Two words closer than this are said in one go."""
_LONG_ANSWERS = frozenset({"interruption", "user_backchannel"})
"""Tasks of which only the first word of an answer is due, so that the others are not called stray."""
_MINUTE_S = 60


def examine(scene: Scene, conduct: Conduct) -> Marks:
    """Score what was done in a scene."""
    marks: dict[str, list[Mark]] = defaultdict(list)
    claims = _claims(scene.due, conduct.said)
    for figure, value in (
        *_answers(scene, conduct.said, claims),
        *_turns(scene, conduct.said),
        *_repetitions(scene, conduct.said),
        *_action(scene, conduct.said),
        *_events(scene, conduct.said),
    ):
        marks[figure].append(Mark(value))
    for figure, mark in (
        *_stray(scene, conduct.said, claims),
        *decision_marks(scene, conduct),
        *hearing_marks(scene, conduct),
        *sign_marks(scene, conduct),
    ):
        marks[figure].append(mark)
    return marks


_Figures = Iterable[tuple[str, float]]
_Claim = range | None
"""Places of the words that say something due; None if nothing does."""


def _answers(scene: Scene, said: Sequence[SpokenWord], claims: Sequence[_Claim]) -> _Figures:
    """Whether each thing due was said in its window, by kind; how soon; and whether a result was said over the user."""
    for due, claim in zip(scene.due, claims, strict=True):
        if due.kind != "event":
            yield f"{due.kind}_hit", float(claim is not None)
        if due.kind == "reply" and claim is not None:
            latency = reply_latency(said[claim.start : claim.stop], due.window_ms[0] / 1000)
            yield "reply_latency_s", latency or 0.0
        if due.kind == "result" and claim is not None:
            yield "result_over_user", float(any(_is_over_user(scene, said[place]) for place in claim))


def _turns(scene: Scene, said: Sequence[SpokenWord]) -> _Figures:
    """Who takes the floor where it is not theirs; how soon it is given up; whether a hum leaves it alone."""
    for moment in scene.moments:
        begin, end = _seconds(moment)
        match moment.kind:
            case "pause":
                yield "pause_taken", _is_spoken_in(said, begin, _pause_goes_on(scene, moment))
            case "turn":
                yield "turn_cut_off", _is_spoken_in(said, begin, end)
            case "others":
                yield "others_taken", _is_spoken_in(said, begin, end + _ANSWERED_WITHIN_S)
            case "interruption" if (latency := stop_latency(said, begin)) > 0:
                yield "stop_latency_s", latency
            case "backchannel":
                goes_on = (word.begin <= end + _HELD_WITHIN_S and word.end > end for word in said)
                yield "backchannel_held", float(any(goes_on))


def _pause_goes_on(scene: Scene, pause: Moment) -> float:
    """Until when, in seconds, a word is taken for an answer to a pause: the next pause, or the turn's end.

    An answer that comes late is heard when the user already goes on, and cuts them off all the same.
    """
    edges = [each.start_ms for each in scene.moments if each.kind == "pause"]
    edges += [each.end_ms for each in scene.moments if each.kind == "turn"]
    return min((edge for edge in edges if edge > pause.start_ms), default=pause.end_ms) / 1000


def _stray(scene: Scene, said: Sequence[SpokenWord], claims: Sequence[_Claim]) -> Iterable[tuple[str, Mark]]:
    """Words that say nothing due, by the minute; where cues are listened for these are the false alarms."""
    if scene.task in _LONG_ANSWERS:
        return
    claimed = {place for claim in claims if claim is not None for place in claim}
    minutes = scene.micro_turns * MICRO_TURN_MS / 1000 / _MINUTE_S
    rate = Mark((len(said) - len(claimed)) / minutes, minutes)
    yield "stray_words_per_minute", rate
    if any(due.kind == "cue" for due in scene.due):
        yield "cue_false_alarms_per_minute", rate


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
    if any(_holds(words, answer) for answer in due.answers):
        return 2
    return int(any(word in answer for word in words for answer in due.answers))


def _holds(words: Words, answer: Words) -> bool:
    places = range(len(words) - len(answer) + 1)
    return any(words[place : place + len(answer)] == answer for place in places)


def _claims(dues: Sequence[Due], said: Sequence[SpokenWord]) -> list[_Claim]:
    """For each thing due the words that first say it in time; each word answers one thing at most."""
    taken: set[int] = set()
    claims: list[_Claim] = []
    for due in dues:
        begin, end = _window(due)
        free = [place for place, word in enumerate(said) if begin <= word.begin <= end and place not in taken]
        sizes = ((place, _said_from(said, place, due)) for place in free)
        claim = next((range(place, place + size) for place, size in sizes if size), None)
        taken.update(claim or ())
        claims.append(claim)
    return claims


def _said_from(said: Sequence[SpokenWord], place: int, due: Due) -> int:
    """How many words from a place on are an answer, the longest there is; 0 if none is."""
    words = tuple(word.word for word in said[place : place + 1 + max(map(len, due.answers))])
    fitting = [len(answer) for answer in due.answers if words[: len(answer)] == answer]
    size = max(fitting, default=0)
    return 0 if size and _is_longer_number(said, place, size) else size


def _is_longer_number(said: Sequence[SpokenWord], place: int, size: int) -> bool:
    """Whether a number goes on to another one, as "twenty" to "twenty one"."""
    after = place + size
    if after >= len(said) or said[after].begin - said[after - 1].end > _WORDS_APART_S:
        return False
    number, longer = (number_of(tuple(word.word for word in said[place:end])) for end in (after, after + 1))
    return number is not None and longer is not None


def _is_over_user(scene: Scene, word: SpokenWord) -> bool:
    talks = (talk for talk in scene.talks if talk.speaker == USER)
    return any(1000 * word.begin < talk.end_ms and talk.start_ms < 1000 * word.end for talk in talks)


def _is_spoken_in(said: Sequence[SpokenWord], begin: float, end: float) -> float:
    # A single word counts: the times are too short for the rule of turn-over rates, which lets a second pass.
    return float(any(begin < word.begin < end for word in said))


def _spans(scene: Scene, kind: str) -> list[Span]:
    return [_seconds(moment) for moment in scene.moments if moment.kind == kind]


def _seconds(moment: Moment) -> Span:
    return moment.start_ms / 1000, moment.end_ms / 1000


def _window(due: Due) -> Span:
    return due.window_ms[0] / 1000, due.window_ms[1] / 1000
