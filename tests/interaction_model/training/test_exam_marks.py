"""Figures from marks: values, and intervals that are neither too narrow nor empty."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.training.marks import Mark, Marks, Statistic, estimate, wilson

pytestmark = pytest.mark.unit


def scenes(*values: list[float]) -> list[Marks]:
    return [{"a": [Mark(value) for value in scene]} for scene in values]


def test_a_share_is_of_all_marks_and_not_of_scenes() -> None:
    found = estimate("a", Statistic.SHARE, [*scenes([1, 1, 1], [0]), {"b": [Mark(0)]}, {"a": []}])
    assert found is not None
    assert (found.value, found.marks, found.scenes) == (0.75, 4, 2)


def test_a_rate_is_weighted() -> None:
    found = estimate("a", Statistic.RATE, [{"a": [Mark(6.0, 0.5)]}, {"a": [Mark(0.0, 1.5)]}])
    assert found is not None and found.value == 1.5


def test_nothing_is_estimated_from_nothing() -> None:
    assert estimate("a", Statistic.MEAN, [{"b": [Mark(1)]}]) is None


def test_a_median_is_one_of_the_marks() -> None:
    found = estimate("a", Statistic.MEDIAN, scenes([1, 9], [2], [100]))
    assert found is not None and found.value == 2.0 and 1.0 <= found.low <= found.high <= 100.0


def test_marks_of_one_scene_do_not_narrow_the_interval() -> None:
    drawn = np.random.default_rng(0).random(40) < 0.5
    alone = estimate("a", Statistic.SHARE, scenes(*([float(each)] for each in drawn)))
    repeated = estimate("a", Statistic.SHARE, scenes(*([float(each)] * 10 for each in drawn)))
    assert alone is not None and repeated is not None
    assert (alone.low, alone.high) == (repeated.low, repeated.high)
    assert 0.2 < alone.high - alone.low < 0.4


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).random(60) < 0.7
        found = estimate("a", Statistic.SHARE, scenes(*([float(each)] for each in drawn)))
        assert found is not None
        covered += found.low <= 0.7 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_all_right_and_all_wrong_leave_room_for_doubt() -> None:
    right = estimate("a", Statistic.SHARE, scenes([1], [1], [1]))
    never = estimate("a", Statistic.RATE, [{"a": [Mark(0.0, 2.0)]}, {"a": [Mark(0.0, 1.0)]}])
    assert right is not None and right.low < 0.5 and right.high == pytest.approx(1.0)
    assert never is not None and (never.low, never.high) == (0.0, 1.0)


def test_wilsons_interval_is_the_one_of_the_books() -> None:
    # 8 of 10, worked out by hand: (0.9921 +- 0.3136) / 1.3841.
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    with pytest.raises(ValueError, match="draws"):
        wilson(0.5, 0)
