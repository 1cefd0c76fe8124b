"""Counting words that are not understood, and saying a phrase as a session does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.renderer import TURN_SAMPLES
from microturn.interaction_model.training.mouth_exam import TAIL_TURNS, WordErrors, edits, say_phrase
from microturn.interaction_model.training.train_mouth import draw_phrases

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=8, width=32, inner=32, blocks=1, symbol=8, time=16)


@pytest.mark.parametrize(
    ("said", "heard", "count"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "b c", 1),
        ("a b c", "a b b c", 1),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c d", "b c d a", 2),
    ],
)
def test_edits_are_counted(said: str, heard: str, count: int) -> None:
    assert edits(said.split(), heard.split()) == count


def test_errors_add_up() -> None:
    total = WordErrors(1, 4) + WordErrors(3, 4)
    assert total == WordErrors(4, 8)
    assert total.rate == 0.5
    assert WordErrors(0, 0).rate == 0


def test_a_phrase_is_said_to_its_end() -> None:
    torch.manual_seed(0)
    mouth = Mouth(SMALL)
    words: Sequence[str] = ["the", "red", "cup", "is", "on", "the", "table"]
    turns = mouth.begins(words)[-1] // 16 + 1 + TAIL_TURNS
    sound = say_phrase(mouth, words)
    assert sound.shape == (turns * TURN_SAMPLES,)
    assert sound.tobytes() == say_phrase(mouth, words).tobytes()
    assert sound.tobytes() != say_phrase(mouth, words, seed=1).tobytes()
    assert np.abs(sound).max() > 0


def test_phrases_of_the_exam_are_not_learned() -> None:
    learned = draw_phrases(300, 1)
    unseen = draw_phrases(100, 1, learned)
    assert len(set(learned)) == 300
    assert len(set(unseen)) == 100
    assert not set(unseen) & set(learned)
    assert learned == draw_phrases(300, 1)
