from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from microturn.interaction_model.training import other_eyes
from microturn.interaction_model.training.other_eyes import (
    CAST_RANGE,
    DARKEST_SPOT,
    GAIN_RANGE,
    OFFSET_RANGE,
    STRONGEST_GRAIN,
    UNCHANGED_SHARE,
    seen_otherwise,
)
from microturn.interaction_model.training.scene import Pixels
from microturn.interaction_model.training.video import COLOURS, colour_of, draw_shade

pytestmark = pytest.mark.unit

Films = dict[int, Pixels]


@pytest.fixture
def films() -> Films:
    """Two pairs of grey frames with a red square."""
    pair = np.full((2, 24, 32, 3), 128, np.uint8)
    pair[:, 4:12, 4:12] = (210, 40, 40)
    return {3: pair, 4: pair.copy()}


@pytest.fixture
def no_spots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_eyes, "SPOTTED_SHARE", 0.0)


def seen(films: Films, seed: int) -> Films:
    return seen_otherwise(films, np.random.default_rng(seed))


def is_same(first: Films, second: Films) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[turn], second[turn]) for turn in first)


def test_the_same_draw_sees_the_same_and_changes_nothing_in_place(films: Films) -> None:
    before = {turn: pixels.copy() for turn, pixels in films.items()}
    for pixels in films.values():
        pixels.setflags(write=False)
    for seed in range(10):
        found = seen(films, seed)
        assert is_same(found, seen(films, seed))
        assert all(each.dtype == np.uint8 and each.shape == (2, 24, 32, 3) for each in found.values())
    assert is_same(films, before)
    assert seen({}, 0) == {}


def test_most_films_are_changed_and_some_are_left(films: Films) -> None:
    same = sum(is_same(seen(films, seed), films) for seed in range(400))
    assert abs(same / 400 - UNCHANGED_SHARE) < 0.08


@pytest.mark.usefixtures("no_spots")
def test_all_frames_of_a_film_get_the_same_light_and_each_its_own_grain(films: Films) -> None:
    with_grain = 0
    for seed in range(60):
        first, second = (pair.astype(float) for pair in seen(films, seed).values())
        # What is grey stays about as light in each frame of the film.
        means = [frame[14:].mean() for pair in (first, second) for frame in pair]
        assert np.ptp(means) < 1.5
        grain = float(first[0, 14:].std(axis=(0, 1)).max())
        assert grain < 1.3 * STRONGEST_GRAIN
        if grain > 0.5:
            with_grain += 1
            assert not np.array_equal(first[0], first[1]) and not np.array_equal(first[0], second[0])
        else:
            assert np.abs(first[0] - second[1]).max() <= 4
    assert 10 <= with_grain <= 40


@pytest.mark.usefixtures("no_spots")
def test_light_and_cast_of_colour_keep_to_their_ranges(films: Films) -> None:
    greys = np.array([seen(films, seed)[3][0, 14:].mean(axis=(0, 1)) for seed in range(200)])
    least = 128 * GAIN_RANGE[0] * CAST_RANGE[0] + OFFSET_RANGE[0]
    most = 128 * GAIN_RANGE[1] * CAST_RANGE[1] + OFFSET_RANGE[1]
    assert least - 1.5 <= greys.min() < least + 12 and most - 12 < greys.max() <= most + 1.5
    assert np.ptp(greys, axis=1).max() > 3


def test_spots_are_soft_and_stay_where_they_are(films: Films) -> None:
    spotted = 0
    for seed in range(60):
        found = np.concatenate(list(seen(films, seed).values())).astype(float)[:, 14:]
        still = [frame.mean(axis=-1) - frame.mean() for frame in found]
        if np.ptp(np.mean(still, axis=0)) < 4 or np.std(found[0] - found[1]) > 1:
            continue
        spotted += 1
        assert np.abs(np.mean(still, axis=0)).max() <= 2 * DARKEST_SPOT
        assert np.abs(still[0] - still[3]).max() <= 4
        assert max(np.abs(np.diff(still[0], axis=axis)).max() for axis in (0, 1)) < DARKEST_SPOT
    assert spotted > 5


@pytest.mark.parametrize("colour", COLOURS)
def test_no_shade_of_training_becomes_another_colour(colour: str) -> None:
    rng = np.random.default_rng(0)
    for gain, red, green, blue, offset in product(GAIN_RANGE, *[CAST_RANGE] * 3, OFFSET_RANGE):
        for _ in range(20):
            shade = np.array(draw_shade(rng, "train", colour)) * gain * np.array([red, green, blue]) + offset
            r, g, b = np.rint(shade).clip(0, 255).astype(int).tolist()
            assert colour_of((r, g, b)) == colour
