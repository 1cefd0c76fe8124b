"""Lengths of the assistant's words in scenes: those that the mouth keeps when it speaks."""

from __future__ import annotations

import pytest
import torch

from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.own_words import UNIT_MS, OwnWords
from microturn.interaction_model.native.speech_track import UNIT_FRAMES

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=8, width=32, inner=32, blocks=1, symbol=8, time=16)
WORDS = ("the", "red", "cup", "is", "in", "the", "kitchen", "okay", "uh")


@pytest.fixture
def mouth() -> Mouth:
    torch.manual_seed(3)
    return Mouth(SMALL)


def test_words_take_as_long_as_the_mouth_says(mouth: Mouth) -> None:
    own_words = OwnWords(mouth.durations)
    befores = (None, *WORDS)
    begins = [0]
    for word, before in zip(WORDS, befores, strict=False):
        begins.append(begins[-1] + own_words(word, before))
    assert [begin // UNIT_MS * UNIT_FRAMES for begin in begins] == mouth.begins(WORDS)
    assert UNIT_MS == 25


def test_the_last_sound_of_a_word_is_never_left_out(mouth: Mouth) -> None:
    torch.nn.init.zeros_(mouth.durations.scores.weight)
    torch.nn.init.zeros_(mouth.durations.scores.bias)
    # All lengths are equally likely now, and of equals the shortest is taken: none.
    assert OwnWords(mouth.durations).units("cup", None) == (0, 0, 0, 1, 0)
