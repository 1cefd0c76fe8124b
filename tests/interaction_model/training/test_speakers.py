"""Who the synthetic speakers are, and that no one is in both parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.training.speakers import (
    HELD_OUT_SHARE,
    SPEAKERS_PER_ENGINE,
    Engine,
    Speaker,
    SpeakerPool,
    Split,
)

pytestmark = pytest.mark.unit


def drawn(engines: list[Engine], split: Split, count: int, seed: int = 0) -> list[Speaker]:
    generator = np.random.default_rng(seed)
    pool = SpeakerPool(engines, split)
    return [pool.draw(generator) for _ in range(count)]


def test_a_speaker_is_the_same_in_every_process() -> None:
    speaker = Speaker(Engine.HIBARI, 42)
    style = speaker.style
    assert speaker.name == "hibari-000042"
    assert speaker.split is Split.TRAIN
    assert (style.pitch, style.formant, style.speed) == pytest.approx((1.3836, 1.1723, 1.2084), abs=1e-4)


@given(st.sampled_from(Engine), st.integers(0, SPEAKERS_PER_ENGINE - 1))
def test_a_name_gives_back_its_speaker(engine: Engine, number: int) -> None:
    assert Speaker.named(Speaker(engine, number).name) == Speaker(engine, number)


@pytest.mark.parametrize("name", ["hibari-42", "nobody-000001", "hibari", "hibari-00000x"])
def test_a_name_of_nobody_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Speaker.named(name)


def test_pools_of_both_splits_share_no_one() -> None:
    train = {speaker.name for speaker in drawn(list(Engine), Split.TRAIN, 3000)}
    held_out = {speaker.name for speaker in drawn(list(Engine), Split.HELD_OUT, 3000)}
    assert not train & held_out
    assert {Speaker.named(name).split for name in train} == {Split.TRAIN}
    assert {Speaker.named(name).split for name in held_out} == {Split.HELD_OUT}


def test_about_a_tenth_of_all_speakers_is_held_out() -> None:
    count = 4000
    held_out = sum(Speaker(Engine.FLITE, number).split is Split.HELD_OUT for number in range(count))
    assert held_out / count == pytest.approx(HELD_OUT_SHARE, abs=0.02)


def test_a_pool_draws_from_its_engines_and_hibari_most_often() -> None:
    of_two = [speaker.engine for speaker in drawn([Engine.ESPEAK, Engine.HIBARI], Split.TRAIN, 2000)]
    assert of_two.count(Engine.HIBARI) / 2000 == pytest.approx(0.75, abs=0.04)
    assert Engine.FLITE not in of_two


def test_the_order_in_which_engines_are_named_changes_no_speaker() -> None:
    forth = drawn([Engine.FLITE, Engine.HIBARI], Split.TRAIN, 20)
    assert forth == drawn([Engine.HIBARI, Engine.FLITE], Split.TRAIN, 20)


def test_styles_fill_their_ranges_and_low_voices_have_low_formants() -> None:
    styles = [speaker.style for speaker in drawn([Engine.HIBARI], Split.TRAIN, 1000)]
    pitch = np.array([style.pitch for style in styles])
    formant = np.array([style.formant for style in styles])
    speed = np.array([style.speed for style in styles])
    for values, low, high in ((pitch, 0.5, 1.4), (formant, 0.8, 1.18), (speed, 0.8, 1.25)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
    assert 0.6 < np.corrcoef(pitch, formant)[0, 1] < 0.95
    assert abs(np.corrcoef(pitch, speed)[0, 1]) < 0.15


def test_a_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="engines"):
        SpeakerPool([], Split.TRAIN)
    with pytest.raises(ValueError, match="engines"):
        SpeakerPool([Engine.FLITE, Engine.FLITE], Split.TRAIN)
    with pytest.raises(ValueError, match="number"):
        Speaker(Engine.FLITE, SPEAKERS_PER_ENGINE)
