from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.native.grammar import MEL_BINS, Bytes, PositionKind
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token
from microturn.interaction_model.training.other_ears import (
    MISHEARD_SHARE,
    SILENCE,
    UNCHANGED_SHARE,
    heard_otherwise,
    misheard,
)

pytestmark = pytest.mark.unit


@pytest.fixture
def levels() -> Bytes:
    """A peak that rises through the bins, over a floor."""
    frames = np.full((60, MEL_BINS), 4, np.uint8)
    for frame in range(60):
        frames[frame, frame + 5 : frame + 9] = 11
    frames[:10] = SILENCE
    return frames


def heard(levels: Bytes, seed: int) -> Bytes:
    return heard_otherwise(levels, np.random.default_rng(seed))


def test_the_same_draw_hears_the_same_and_changes_nothing_in_place(levels: Bytes) -> None:
    before = levels.copy()
    for seed in range(5):
        assert np.array_equal(heard(levels, seed), heard(levels, seed))
    assert np.array_equal(levels, before)


def test_most_are_changed_and_some_are_left(levels: Bytes) -> None:
    same = sum(np.array_equal(heard(levels, seed), levels) for seed in range(400))
    assert abs(same / 400 - UNCHANGED_SHARE) < 0.08


def test_silence_stays_silent_and_levels_stay_levels(levels: Bytes) -> None:
    for seed in range(50):
        found = heard(levels, seed)
        assert found.dtype == np.uint8 and found.shape == levels.shape
        assert (found[:10] == SILENCE).all()
        assert found.min() >= SILENCE and found.max() <= 15


def test_a_peak_stays_about_where_it_was(levels: Bytes) -> None:
    for seed in range(50):
        found = heard(levels, seed)
        for frame in (12, 30, 50):
            is_peak = found[frame] >= found[frame].max() - 1
            if found[frame].max() > 7:  # else the peak lies in deaf bins
                assert abs(int(np.argmax(is_peak)) - (frame + 5)) <= 10


def test_a_few_heard_words_are_replaced_and_nothing_else() -> None:
    words = [heard_token("red"), said_token("red"), int(Token.DELEGATE), int(Token.NOW)]
    ids = np.array(words * 2000, np.int32)
    kinds = np.full(len(ids), int(PositionKind.OUTPUT), np.uint8)
    kinds[3::4] = int(PositionKind.NOW)
    found = misheard(kinds, ids, np.random.default_rng(1))
    changed = found != ids
    assert not changed[1::4].any() and not changed[2::4].any() and not changed[3::4].any()
    assert abs(changed[::4].mean() - MISHEARD_SHARE) < 0.02
    assert all(heard_token("zero") <= token < said_token("zero") for token in found[::4])
    read = np.full(len(ids), int(PositionKind.TEXT), np.uint8)
    assert np.array_equal(misheard(read, ids, np.random.default_rng(1)), ids)
