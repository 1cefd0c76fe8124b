"""Signs of listening and cancellations: those that belong there, and those that do not."""

from __future__ import annotations

import pytest

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.decision_marks import decision_marks
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene import Moment, Scene
from microturn.interaction_model.training.sign_marks import SIGN_TOLERANCE, sign_marks
from tests.interaction_model.training.bare_scenes import scene_of

pytestmark = pytest.mark.unit


def sign(turn: int) -> Moment:
    """A place for a sign that is given in a micro-turn."""
    return Moment("sign", 200 * (turn + 1), 200 * (turn + 2))


def marked(scene: Scene, *signs: int) -> tuple[list[float], float]:
    """Hits, and signs by the minute that are false."""
    marks = list(sign_marks(scene, Conduct(signs=signs)))
    (rate,) = (mark.value for key, mark in marks if key == "false_signs_per_minute")
    return [mark.value for key, mark in marks if key == "sign_hit"], round(rate, 6)


@pytest.mark.parametrize(("off", "hit"), [(0, 1.0), (2, 1.0), (-2, 1.0), (3, 0.0), (-3, 0.0)])
def test_a_sign_may_come_two_micro_turns_early_or_late(off: int, hit: float) -> None:
    assert SIGN_TOLERANCE == 2
    assert marked(scene_of(moments=(sign(20),)), 20 + off) == ([hit], 6 * (1 - hit))


def test_a_sign_counts_once_and_those_too_many_are_false() -> None:
    scene = scene_of(moments=(sign(24), sign(20)))
    assert marked(scene, 22) == ([1.0, 0.0], 0.0)
    assert marked(scene, 20, 21, 24, 40) == ([1.0, 1.0], 12.0)
    assert marked(scene_of(), 5) == ([], 6.0)


def test_stories_say_where_signs_belong() -> None:
    mixture = Mixture(estimated_cast(), "test")
    places = 0
    for seed in range(10):
        scene = mixture.scene_of("story", seed)
        given = [turn for turn, tokens in enumerate(scene.targets) if read_emission(tokens).backchannel]
        found = [moment.start_ms for moment in scene.moments if moment.kind == "sign"]
        assert found == [200 * (turn + 1) for turn in given]
        pauses = [(each.start_ms, each.end_ms) for each in scene.moments if each.kind == "pause"]
        assert all(any(begin < at <= end for begin, end in pauses) for at in found)
        places += len(found)
    assert places > 5


def test_cancellations_of_nothing_are_false() -> None:
    def false(scene: Scene, *cancels: int) -> float:
        marks = dict(decision_marks(scene, Conduct(cancels=cancels)))
        return marks["false_cancels_per_minute"].value

    scene = scene_of(cancels=(20,))
    assert false(scene) == false(scene, 20) == false(scene, 22) == 0.0
    assert false(scene, 10) == pytest.approx(6.0)
    # A cancellation that is said twice calls off one task.
    assert false(scene, 20, 21) == pytest.approx(6.0)
    assert false(scene_of(), 1, 2, 3) == pytest.approx(18.0)
