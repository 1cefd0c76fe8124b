"""Signs of listening: given where a story leaves room for one, and nowhere else.

The truth is the scene's moments of the kind `sign`. Where exactly a sign belongs is a matter of taste, so that no goal
is set for these figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.marks import Mark
from microturn.interaction_model.training.scene import MICRO_TURN_MS, Scene
from microturn.interaction_model.training.stage import heard_ms

SIGN_TOLERANCE = 2
"""Micro-turns by which a sign may come early or late; our choice: the pauses that they are given in last up to 1.1 s."""
_MINUTE_MS = 60_000


def sign_marks(scene: Scene, conduct: Conduct) -> Iterator[tuple[str, Mark]]:
    """Yield a mark for each place of a sign, and by the minute the signs that stand at none; a sign counts once."""
    left = list(conduct.signs)
    for place in _places(scene):
        near = next(
            (sign for sign in left if abs(heard_ms(sign) - place) <= SIGN_TOLERANCE * MICRO_TURN_MS), None
        )
        if near is not None:
            left.remove(near)
        yield "sign_hit", Mark(float(near is not None))
    minutes = scene.micro_turns * MICRO_TURN_MS / _MINUTE_MS
    yield "false_signs_per_minute", Mark(len(left) / minutes, minutes)


def _places(scene: Scene) -> Sequence[int]:
    """When each sign is heard, in milliseconds, in order."""
    return sorted(moment.start_ms for moment in scene.moments if moment.kind == "sign")
