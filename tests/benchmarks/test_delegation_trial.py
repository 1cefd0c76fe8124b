"""What came of a benchmark's task is counted right, and survives the way between two programs."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from alternatives.trial import Order, Piece, Trial

pytestmark = pytest.mark.unit


def came(*numbers: int, every_s: float = 0.1) -> Trial:
    trial = Trial(submitted_s=1.0)
    for place, number in enumerate(numbers):
        trial.take(Piece(number, begun_s=1.5, sent_s=2.0, pid=7), got_s=3.0 + place * every_s)
    return trial


def test_an_order_survives_the_way_to_another_program() -> None:
    order = Order(tasks=3, at_once=2, pause_s=0.05, nudge_s=1.0)
    assert Order.decode(order.encode()) == order


def test_a_trial_survives_the_way_to_another_program() -> None:
    trial = came(0, 1)
    assert Trial(**json.loads(json.dumps(asdict(trial)))) == trial


def test_pieces_that_come_again_after_a_second_start_are_doubled_and_not_lost() -> None:
    trial = came(0, 1, 2, 0, 1, 2, 3)
    assert (trial.lost(4), trial.doubled()) == (0, 3)


def test_pieces_that_never_came_are_lost() -> None:
    trial = came(0, 1, 1)
    assert (trial.lost(4), trial.doubled()) == (2, 1)


def test_the_end_is_no_piece() -> None:
    trial = came(0)
    trial.take(Piece(1, begun_s=1.5, sent_s=2.0, pid=7, is_end=True), got_s=9.0)
    assert (trial.numbers, trial.ended_s, trial.begun_s) == ([0], 9.0, 1.5)


def test_the_longest_gap_is_between_two_pieces() -> None:
    assert came(0, 1, 2, every_s=0.25).longest_gap_s() == pytest.approx(0.25)
    assert came(0).longest_gap_s() == 0.0
