"""The mouth's targets in scenes: described as in serving, and the teacher's sounds at the mouth's times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.flow_head import PAST_FRAMES, FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth, MouthState
from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.pronunciation import SILENCE, symbols
from microturn.interaction_model.native.speech_track import UNIT_FRAMES
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, silence
from microturn.interaction_model.training.cast import Cast, EstimatedVoices
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.mouth_teacher import MouthTeacher
from microturn.interaction_model.training.own_voice import SpokenPhrase
from microturn.interaction_model.training.scene import Scene
from microturn.interaction_model.training.scene_shards import MouthTargets

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=8, width=32, inner=32, blocks=1, symbol=8, time=16)
UNITS = 3
TAIL = 10


class NumberingTeacher:
    """Says every symbol in 3 units, and writes the symbol's number in all of its frames."""

    def say(self, words: Sequence[str]) -> SpokenPhrase:
        """Return frames of numbers, with -1 behind the last word."""
        numbers = [symbols(word) for word in words]
        units = [[UNITS] * len(word) for word in numbers]
        units[-1][-1] = 0
        flat = [number for word in numbers for number in word][:-1]
        levels = np.array([*np.repeat(flat, UNITS * UNIT_FRAMES), *[-1] * TAIL], np.float32)
        frames = np.repeat(levels[:, None], FRAME_SIZE, 1)
        return SpokenPhrase(tuple(words), tuple(map(tuple, units)), frames)


@pytest.fixture(scope="module")
def mouth() -> Mouth:
    torch.manual_seed(5)
    return Mouth(SMALL).eval()


def targets_of(mouth: Mouth, task: str, seed: int) -> tuple[Scene, MouthTargets]:
    own_words = OwnWords(mouth.durations)
    scene = Mixture(Cast(EstimatedVoices(), own_words), "train").scene_of(task, seed)
    targets = MouthTeacher(NumberingTeacher(), own_words).targets(scene)
    assert targets is not None
    return scene, targets


@pytest.mark.parametrize("task", ["conversation", "interruption", "clock_every", "errand"])
def test_frames_are_described_as_the_serving_mouth_describes_them(mouth: Mouth, task: str) -> None:
    scene, targets = targets_of(mouth, task, 1)
    ends = {word.end_ms // 200 - 1 for word in scene.speech if not word.end_ms % 200}
    state, place = MouthState(0), 0
    for turn in range(scene.micro_turns):
        words = [word.word for word in scene.speech if word.micro_turn == turn]
        # A barge-in changes nothing where all has been said.
        state = state.stopped() if turn in ends and not words else state
        is_loud = bool(words) or not state.is_quiet
        if is_loud:
            assert targets.turns[place] == turn
            assert np.array_equal(targets.symbols[place, :PAST_FRAMES], state.states.symbols)
            assert np.allclose(targets.measures[place, :PAST_FRAMES], state.states.measures, atol=1e-3)
        state = mouth.speak(torch.zeros(1, 8), [state], [words], steps=1).states[0]
        if is_loud:
            assert np.array_equal(targets.symbols[place, -PAST_FRAMES:], state.states.symbols)
            place += 1
    assert place == len(targets.turns)


@pytest.mark.parametrize("task", ["conversation", "interruption"])
def test_a_frame_sounds_as_the_symbol_that_is_said_in_it(mouth: Mouth, task: str) -> None:
    _, targets = targets_of(mouth, task, 2)
    said, levels = targets.symbols[:, PAST_FRAMES:, 1], targets.frames[:, PAST_FRAMES:, 0]
    # In a phrase's last pause the teacher's tail is heard, and silence.
    is_sound = (said != SILENCE) & (said != symbols("the")[-1])
    assert is_sound.sum() > 30
    assert np.array_equal(levels[is_sound], said[is_sound].astype(np.float16))
    drawn = [targets_of(mouth, task, seed)[1].frames[:, PAST_FRAMES:, 0] for seed in range(2, 8)]
    assert any((each == -1).any() for each in drawn)


def test_speech_that_is_cut_dies_away(mouth: Mouth) -> None:
    for seed in range(20):
        scene, targets = targets_of(mouth, "interruption", seed)
        moment = next(each for each in scene.moments if each.kind == "interruption")
        # What is drawn in this micro-turn is silent from its first frame but for the fading.
        turn = moment.start_ms // 200 + 1
        frames = targets.frames[list(targets.turns).index(turn), PAST_FRAMES:]
        assert np.allclose(frames[3:], silence(13), atol=0.01)


def test_a_scene_in_which_nothing_is_said_has_no_targets(mouth: Mouth) -> None:
    own_words = OwnWords(mouth.durations)
    scene = Mixture(Cast(EstimatedVoices(), own_words), "train").scene_of("quiet", 0)
    assert MouthTeacher(NumberingTeacher(), own_words).targets(scene) is None
