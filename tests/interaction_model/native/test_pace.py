"""The pace of speech: the time of the mouth's own track, without its symbols."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.mouth import MouthState
from microturn.interaction_model.native.own_words import UNIT_MS, OwnWords
from microturn.interaction_model.native.pace import QUIET_MS, Pace
from microturn.interaction_model.native.speech_track import UNIT_FRAMES
from tests.interaction_model.native.small_models import small_mouth

pytestmark = pytest.mark.unit

WORDS = ("a", "it", "seventeen", "kitchen", "okay", "yes")


def of_track(state: MouthState) -> tuple[float, float]:
    """Milliseconds that are left, and of silence, as the mouth has them."""
    track = state.track
    frame_ms = UNIT_MS / UNIT_FRAMES
    left = UNIT_MS * sum(symbol.units for symbol in track.waiting) - frame_ms * track.passed
    return left, 0 if track.waiting else frame_ms * track.silent


@pytest.mark.parametrize("seed", range(3))
def test_it_is_where_the_mouth_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mouth = small_mouth()
    word_ms = OwnWords(mouth.durations)
    state, pace = MouthState(seed), Pace()
    for _ in range(60):
        words = tuple(rng.choice(WORDS, rng.choice([0, 0, 0, 1, 1, 3])).tolist())
        if rng.random() < 0.1:
            state, pace = state.stopped(), pace.stopped()
        state = mouth.speak(torch.zeros(1, 48), [state], [words], steps=1).states[0]
        pace = pace.saying(words, word_ms).later()
        assert (pace.left_ms, pace.silent_ms) == of_track(state)
        assert pace.is_quiet == state.is_quiet


def test_words_are_given_in_the_micro_turns_in_which_they_begin() -> None:
    mouth = small_mouth()
    word_ms = OwnWords(mouth.durations)
    words = WORDS * 3
    wanted = [frame // 16 for frame in mouth.begins(words)[:-1]]
    pace, found, given = Pace(), [], 0
    for turn in range(wanted[-1] + 1):
        count = pace.fitting(words[given:], word_ms)
        found += [turn] * count
        pace = pace.saying(words[given : given + count], word_ms).later()
        given += count
    assert found == wanted


def test_a_word_of_half_a_second_rests_after_it() -> None:
    pace = Pace().saying(("hello",), lambda word, before: 500)
    assert pace.is_speaking and not pace.is_quiet and pace.silent_ms == 0
    second, third = pace.later(), pace.later().later()
    assert (second.left_ms, third.left_ms, third.before) == (300, 100, "hello")
    over = third.later()
    assert over == Pace(0, 100, None) and not over.has_rested
    assert over.later().has_rested and not over.later().is_quiet
    assert over.later().later() == Pace(silent_ms=QUIET_MS) and over.later().later().is_quiet
