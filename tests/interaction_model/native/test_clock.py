"""The clock tells times apart, and how far apart they are, whatever the hour."""

from __future__ import annotations

import math

import pytest
import torch

from microturn.interaction_model.native.clock import FACES, Clock
from microturn.interaction_model.native.grammar import CLOCK_PERIODS
from microturn.interaction_model.native.stopwatches import NEVER

pytestmark = pytest.mark.unit

HOUR = 5 * 3600


def shown(turns: torch.Tensor, face: int = 0) -> torch.Tensor:
    """Times on one face; the others were never started."""
    times = torch.full((*turns.shape, FACES), NEVER)
    times[..., face] = turns
    return times


@pytest.fixture
def clock() -> Clock:
    """A clock whose width shows every hand of every face as it stands."""
    size = FACES * 2 * len(CLOCK_PERIODS)
    made = Clock(size).requires_grad_(False)
    made.hands.weight.copy_(torch.eye(size))
    return made


def test_an_untrained_clock_says_nothing() -> None:
    assert not Clock(8)(shown(torch.arange(1000))).any()


def test_hands_stand_where_their_periods_put_them(clock: Clock) -> None:
    for turn in (0, 1, 7, 759, 10 * HOUR + 3):
        angles = [2 * math.pi * (turn % period) / period for period in CLOCK_PERIODS]
        wanted = [value for angle in angles for value in (math.sin(angle), math.cos(angle))]
        hands = clock(shown(torch.tensor(turn))).tolist()
        assert hands[: len(wanted)] == pytest.approx(wanted, abs=1e-6)
        assert not any(hands[len(wanted) :])


def test_each_face_has_hands_of_its_own(clock: Clock) -> None:
    faces = [clock(shown(torch.tensor(7), face)).view(FACES, -1) for face in range(FACES)]
    for number, face in enumerate(faces):
        assert torch.equal(face[number], faces[0][0])
        assert not face[[other for other in range(FACES) if other != number]].any()


def test_how_far_apart_two_times_are_is_the_same_at_any_hour(clock: Clock) -> None:
    starts = torch.tensor([0, 17, HOUR, 10 * HOUR + 5])
    for apart in (1, 15, 60):
        likeness = (clock(shown(starts)) * clock(shown(starts + apart))).sum(-1)
        assert torch.allclose(likeness, likeness[:1].expand(4), atol=1e-5)


def test_what_is_served_is_what_was_trained_and_the_same_in_company() -> None:
    torch.manual_seed(0)
    clock = Clock(64).requires_grad_(False)
    torch.nn.init.normal_(clock.hands.weight)
    times = torch.randint(NEVER, 10 * HOUR, (9, FACES))
    together = clock.embed(times)
    assert torch.allclose(together, clock(times), atol=1e-5)
    for row, own in zip(together, times, strict=True):
        assert torch.equal(clock.embed(own[None])[0], row)
