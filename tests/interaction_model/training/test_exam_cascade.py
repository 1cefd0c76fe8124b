"""The cascade sits the exam by the same adapter: what it says is heard, and results wait for the floor."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.cascade.loader import load_cascade
from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.served_examinee import ServedExaminee
from microturn.protocols import INPUT_SAMPLES
from tests.interaction_model.training.bare_scenes import scene_of

pytestmark = pytest.mark.model

TURNS = 40


def test_the_cascade_answers_what_is_typed_and_says_a_result_at_the_next_pause() -> None:
    arrivals = {2: Inputs(text=("hello",), background=(("it", "is", "fifty", "five"),))}
    quiet = np.zeros(TURNS * INPUT_SAMPLES, np.float32)
    scene = scene_of(micro_turns=TURNS, arrivals=arrivals)
    model = load_cascade()
    try:
        (conduct,) = ServedExaminee("cascade", model, weaves=False).sit([RenderedScene(scene, quiet)])
    finally:
        model.close()
    words = [word.word for word in conduct.said]
    place = words.index("fifty")
    assert words[place - 2 : place + 2] == ["it", "is", "fifty", "five"] and place > 2
    assert all(word.begin < word.end for word in conduct.said)
    assert all(
        one.end <= other.begin + 1e-6 for one, other in zip(conduct.said, conduct.said[1:], strict=False)
    )
    assert conduct.said[0].begin >= 0.6 and not conduct.heard
