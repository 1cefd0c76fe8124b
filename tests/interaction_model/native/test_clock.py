"""The clock tells times apart, and how far apart they are, whatever the hour."""

from __future__ import annotations

import math

import pytest
import torch

from microturn.interaction_model.native.clock import Clock
from microturn.interaction_model.native.grammar import CLOCK_PERIODS

pytestmark = pytest.mark.unit

HOUR = 5 * 3600


@pytest.fixture
def clock() -> Clock:
    """A clock whose width shows every hand as it stands."""
    made = Clock(2 * len(CLOCK_PERIODS)).requires_grad_(False)
    made.hands.weight.copy_(torch.eye(2 * len(CLOCK_PERIODS)))
    return made


def test_an_untrained_clock_says_nothing() -> None:
    assert not Clock(8)(torch.arange(1000)).any()


def test_hands_stand_where_their_periods_put_them(clock: Clock) -> None:
    for turn in (0, 1, 7, 759, 10 * HOUR + 3):
        angles = [2 * math.pi * (turn % period) / period for period in CLOCK_PERIODS]
        wanted = [value for angle in angles for value in (math.sin(angle), math.cos(angle))]
        assert clock(torch.tensor(turn)).tolist() == pytest.approx(wanted, abs=1e-6)


def test_how_far_apart_two_times_are_is_the_same_at_any_hour(clock: Clock) -> None:
    starts = torch.tensor([0, 17, HOUR, 10 * HOUR + 5])
    for apart in (1, 15, 60):
        likeness = (clock(starts) * clock(starts + apart)).sum(-1)
        assert torch.allclose(likeness, likeness[:1].expand(4), atol=1e-5)


def test_what_is_served_is_what_was_trained_and_the_same_in_company() -> None:
    torch.manual_seed(0)
    clock = Clock(64).requires_grad_(False)
    torch.nn.init.normal_(clock.hands.weight)
    turns = torch.randint(0, 10 * HOUR, (9,))
    together = clock.embed(turns)
    assert torch.allclose(together, clock(turns), atol=1e-5)
    for row, turn in zip(together, turns, strict=True):
        assert torch.equal(clock.embed(turn[None])[0], row)
