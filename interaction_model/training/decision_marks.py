"""Delegate or answer: whether each request was handed over or answered in time, and what was handed over for nothing.

A decision is right whatever words it has; whether the words are right too is a figure of its own. The truth is the
scene's errands and things due.
"""

from __future__ import annotations

from collections.abc import Iterator

from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.marks import Mark
from microturn.interaction_model.training.scene import MICRO_TURN_MS, Due, Scene
from microturn.interaction_model.training.stage import REPLY_WINDOW_MS, heard_ms

_MINUTE_MS = 60_000
_Window = tuple[int, int]
"""Milliseconds, both ends included. What is decided in a micro-turn takes effect at its end."""


def decision_marks(scene: Scene, conduct: Conduct) -> Iterator[tuple[str, Mark]]:
    """Yield a mark for each request and each cancellation; by the minute those delegations and cancellations that are false."""
    matched = _matched(scene, conduct)
    for (_, intent), place in zip(scene.tasks, matched, strict=True):
        done = conduct.tasks[place][1] if place is not None else None
        yield "decided_rightly", Mark(float(done is not None))
        yield "delegated", Mark(float(done is not None))
        yield "delegated_exactly", Mark(float(done == intent))
    for due in _answers_due(scene):
        is_answered = _is_answered(due, conduct) and not _is_delegated(due.window_ms, conduct)
        yield "decided_rightly", Mark(float(is_answered))
        yield "answered", Mark(float(is_answered))
    for turn in scene.cancels:
        yield "cancelled", Mark(float(any(_in(_decided_by(turn), each) for each in conduct.cancels)))
    minutes = scene.micro_turns * MICRO_TURN_MS / _MINUTE_MS
    false = len(conduct.tasks) - sum(place is not None for place in matched)
    yield "false_delegations_per_minute", Mark(false / minutes, minutes)
    yield "false_cancels_per_minute", Mark(_false_cancels(scene, conduct) / minutes, minutes)


def _matched(scene: Scene, conduct: Conduct) -> list[int | None]:
    """For each errand of the scene the place of the delegation that hands it over in time, the right words first."""
    taken: set[int] = set()
    matched: list[int | None] = []
    for turn, intent in scene.tasks:
        window = _decided_by(turn)
        free = [at for at, (when, _) in enumerate(conduct.tasks) if at not in taken and _in(window, when)]
        best = min(free, key=lambda at: conduct.tasks[at][1] != intent, default=None)
        if best is not None:
            taken.add(best)
        matched.append(best)
    return matched


def _false_cancels(scene: Scene, conduct: Conduct) -> int:
    """How many cancellations call nothing off: each window takes one."""
    left = list(conduct.cancels)
    for turn in scene.cancels:
        inside = next((each for each in left if _in(_decided_by(turn), each)), None)
        if inside is not None:
            left.remove(inside)
    return len(left)


def _answers_due(scene: Scene) -> list[Due]:
    """Replies to requests that are not handed over."""
    windows = [_decided_by(turn) for turn, _ in scene.tasks]
    replies = [due for due in scene.due if due.kind == "reply"]
    return [due for due in replies if not any(_overlap(due.window_ms, window) for window in windows)]


def _is_answered(due: Due, conduct: Conduct) -> bool:
    begin, end = due.window_ms
    return any(begin <= 1000 * word.begin <= end for word in conduct.said)


def _is_delegated(window: _Window, conduct: Conduct) -> bool:
    return any(_in(window, turn) for turn, _ in conduct.tasks)


def _decided_by(turn: int) -> _Window:
    """When a decision counts that is due in a micro-turn: from the micro-turn on in which the request ends."""
    begin = heard_ms(turn - 1)
    return begin, begin + REPLY_WINDOW_MS


def _in(window: _Window, turn: int) -> bool:
    return window[0] <= heard_ms(turn) <= window[1]


def _overlap(one: _Window, other: _Window) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
