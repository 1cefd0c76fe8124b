"""The formulas of the scores, on examples worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.training.scorers import (
    Span,
    SpokenWord,
    count_error,
    cue_score,
    mean,
    off_by_one,
    online_count,
    pauc,
    reply_latency,
    stop_latency,
    takes_turn,
    temporal_iou,
    turn_over_rate,
    window_hit,
)

pytestmark = pytest.mark.unit


def said(*times: Span) -> list[SpokenWord]:
    return [SpokenWord("word", begin, end) for begin, end in times]


def test_silence_and_backchannels_take_no_turn() -> None:
    assert not takes_turn([])
    assert not takes_turn(said((1.0, 1.3), (1.4, 1.6), (1.7, 1.9)))


def test_a_second_of_speech_or_a_fourth_word_takes_the_turn() -> None:
    assert takes_turn(said((1.0, 2.0)))
    assert takes_turn(said((1.0, 1.1), (1.2, 1.3), (1.4, 1.5), (1.6, 1.7)))


def test_the_paper_calls_two_short_words_a_turn_and_the_code_does_not() -> None:
    two = said((1.0, 1.2), (1.3, 1.5))
    assert takes_turn(two, most_words=1)
    assert not takes_turn(two)


def test_the_turn_over_rate_is_the_share_of_turns_taken() -> None:
    assert turn_over_rate([[], said((0.0, 2.0)), [], said((0.0, 1.5))]) == 0.5
    assert turn_over_rate([]) is None


def test_latency_runs_from_the_users_end_and_is_clipped_on_demand_only() -> None:
    assert reply_latency(said((3.5, 4.0), (3.2, 3.4)), 3.0) == pytest.approx(0.2)
    assert reply_latency(said((2.5, 4.0)), 3.0) == pytest.approx(-0.5)
    assert reply_latency(said((2.5, 4.0)), 3.0, clip=True) == 0.0
    assert reply_latency([], 3.0) is None


def test_speech_under_way_stops_at_the_end_of_its_stretch() -> None:
    words = said((0.0, 1.0), (1.2, 2.0), (2.4, 2.6), (4.0, 5.0))
    assert stop_latency(words, 1.1) == pytest.approx(1.5)
    assert stop_latency(words, 3.0) == 0.0
    assert stop_latency([], 3.0) == 0.0


def test_a_window_counts_both_of_its_ends() -> None:
    assert window_hit(4.0, (4.0, 4.8)) and window_hit(4.8, (4.0, 4.8))
    assert not window_hit(4.81, (4.0, 4.8))
    assert not window_hit(4.4, (4.0, 4.8), meaning_is_right=False)
    assert not window_hit(None, (4.0, 4.8))


def test_each_reply_answers_one_cue_and_the_rest_are_false_alarms() -> None:
    score = cue_score([1.5, 1.6, 9.0], [(1.0, 2.0), (5.0, 6.0)], 30.0)
    assert (score.hits, score.cues, score.false_alarms) == (1, 2, 2)
    assert score.hit_rate == 0.5
    assert score.false_alarms_per_minute == 4.0


def test_overlapping_cue_windows_share_their_replies_as_well_as_can_be() -> None:
    assert cue_score([1.5, 2.5], [(1.0, 3.0), (1.0, 2.0)], 10.0).hits == 2


def test_no_cues_give_no_rate() -> None:
    score = cue_score([], [], 0.0)
    assert score.hit_rate is None and score.false_alarms_per_minute is None
    assert mean([]) is None


def test_intersection_over_union_of_times() -> None:
    assert temporal_iou((2.0, 6.0), (4.0, 8.0)) == pytest.approx(2 / 6)
    assert temporal_iou((4.0, 8.0), (4.0, 8.0)) == 1.0
    assert temporal_iou((0.0, 1.0), (4.0, 8.0)) == 0.0
    assert temporal_iou((8.0, 4.0), (4.0, 8.0)) == 0.0
    assert temporal_iou(None, (4.0, 8.0)) == 0.0


def test_the_last_number_after_the_last_but_one_repetition_counts() -> None:
    ends = [2.0, 4.0, 6.0]
    assert online_count([(2.3, 1), (4.3, 2), (6.3, 3)], ends) == 3
    assert online_count([(2.3, 1), (4.3, 2)], ends) == 2
    assert online_count([(2.3, 1), (3.9, 2)], ends) is None
    assert online_count([(1.0, 1)], [2.0]) == 1
    assert online_count([], ends) is None


def test_counts_are_right_within_one_and_errors_are_shares_of_the_truth() -> None:
    assert off_by_one(4, 5) and off_by_one(6, 5)
    assert not off_by_one(7, 5)
    assert not off_by_one(None, 1)
    assert count_error(7, 5) == pytest.approx(0.4)
    assert count_error(None, 5) == 1.0


def test_area_under_the_marks_of_a_worked_example() -> None:
    # 9 s at a half, 36 s at 1 and 4 s at 2, of 49 s at 2: 4.5 + 36 + 8 = 48.5 of 98.
    assert pauc((0.0, 49.0), [(9.0, 1), (45.0, 2)], weight=0.0) == pytest.approx(48.5 / 98)


def test_area_under_the_marks_at_its_known_points() -> None:
    assert pauc((3.0, 9.0), []) == 0.25
    assert pauc((3.0, 9.0), [(3.0, 2)]) == 1.0
    assert pauc((3.0, 9.0), [(3.0, 0)]) == 0.0
    assert pauc((3.0, 9.0), [(9.0, 2)]) == pytest.approx(0.625)
    assert pauc((3.0, 9.0), [(9.0, 2)], weight=1.0) == 1.0
    assert pauc((3.0, 9.0), [(9.0, 2)], weight=0.0) == 0.25


@given(st.lists(st.tuples(st.floats(2, 7), st.integers(0, 2)), max_size=5), st.floats(0, 1))
def test_the_area_lies_between_nothing_and_all(replies: list[tuple[float, int]], weight: float) -> None:
    assert -1e-9 <= pauc((2.0, 7.0), replies, weight=weight) <= 1 + 1e-9


@given(st.floats(0, 10), st.floats(0, 10))
def test_saying_it_sooner_is_never_worth_less(first: float, second: float) -> None:
    sooner, later = sorted((first, second))
    assert pauc((0.0, 10.0), [(sooner, 2)]) >= pauc((0.0, 10.0), [(later, 2)]) - 1e-12


@given(st.tuples(st.floats(0, 9), st.floats(0, 9)), st.floats(0, 5), st.floats(0.1, 4))
def test_intersection_over_union_is_a_share_and_the_same_both_ways(
    said_: Span, begin: float, length: float
) -> None:
    label = (begin, begin + length)
    share = temporal_iou(said_, label)
    assert 0 <= share <= 1
    if said_[1] > said_[0]:
        assert math.isclose(share, temporal_iou(label, said_))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pauc((3.0, 3.0), []), "span must end after it begins"),
        (lambda: pauc((3.0, 9.0), [(2.0, 1)]), "replies must lie inside the span"),
        (lambda: pauc((3.0, 9.0), [(4.0, 3)]), "marks must be 0, 1 or 2"),
        (lambda: pauc((3.0, 9.0), [], weight=1.5), "weight must lie in"),
        (lambda: temporal_iou(None, (3.0, 3.0)), "label must end after it begins"),
        (lambda: count_error(1, 0), "truth must be at least 1"),
    ],
)
def test_impossible_truths_are_refused(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()
