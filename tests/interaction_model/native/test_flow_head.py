"""The flow head: its loss, its steps, and bits that depend on a session alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.interaction_model.native.flow_head import (
    PAST_FRAMES,
    SEEN_FRAMES,
    SMALLEST_NOISE,
    TRAINING_MATH,
    FlowContext,
    FlowHead,
    FlowHeadConfig,
)
from microturn.interaction_model.native.pronunciation import ALPHABET
from microturn.interaction_model.native.speech_track import MEASURES, NEIGHBOURS
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE, TURN_FRAMES

pytestmark = pytest.mark.unit

SMALL = FlowHeadConfig(condition=24, width=32, inner=48, blocks=2, symbol=8, time=16)


def context(size: int, seed: int = 0) -> FlowContext:
    random = torch.Generator().manual_seed(seed)
    return FlowContext(
        condition=torch.randn(size, SMALL.condition, generator=random),
        past=torch.randn(size, PAST_FRAMES, FRAME_SIZE, generator=random),
        symbols=torch.randint(len(ALPHABET) + 1, (size, SEEN_FRAMES, NEIGHBOURS), generator=random),
        measures=torch.rand(size, SEEN_FRAMES, MEASURES, generator=random),
    )


def noise(size: int, seed: int = 1) -> Tensor:
    return torch.randn(size, TURN_FRAMES, FRAME_SIZE, generator=torch.Generator().manual_seed(seed))


def lively() -> FlowHead:
    """Return a head whose every weight matters: a new one's last layer is 0."""
    torch.manual_seed(3)
    head = FlowHead(SMALL)
    with torch.no_grad():
        for parameter in (head.velocity.weight, head.modulation.weight, head.condition.weight):
            parameter.normal_(0, 0.1)
    return head


def rows(given: FlowContext, chosen: slice) -> FlowContext:
    return FlowContext(
        given.condition[chosen], given.past[chosen], given.symbols[chosen], given.measures[chosen]
    )


def test_a_new_head_loses_what_the_velocity_is() -> None:
    head = FlowHead(SMALL)
    torch.nn.init.zeros_(head.velocity.bias)
    target, start = noise(5, seed=8), noise(5)
    loss = head.loss(target, context(5), start, torch.rand(5))
    drift = target - (1 - SMALLEST_NOISE) * start
    torch.testing.assert_close(loss, drift.square().mean())


def test_every_weight_learns() -> None:
    head = lively()
    head.loss(noise(5, seed=8), context(5), noise(5), torch.rand(5)).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_constant_velocity_is_followed_for_a_time_of_1(steps: int) -> None:
    head = FlowHead(SMALL)
    torch.nn.init.normal_(head.velocity.bias)
    drawn = head.draw(context(2), noise(2), steps)
    torch.testing.assert_close(drawn, noise(2) + head.velocity.bias)


def test_serving_computes_what_training_computes() -> None:
    head = lively()
    served = head.draw(context(3), noise(3), 4)
    trained = head.draw(context(3), noise(3), 4, TRAINING_MATH)
    torch.testing.assert_close(served, trained, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(served, noise(3), atol=0.1)


def test_a_session_draws_the_same_bits_alone_and_in_company() -> None:
    head = lively()
    together = head.draw(context(7), noise(7), 4)
    for row in range(7):
        chosen = slice(row, row + 1)
        alone = head.draw(rows(context(7), chosen), noise(7)[chosen], 4)
        assert torch.equal(alone[0], together[row])


def test_frames_depend_on_all_that_is_given() -> None:
    head = lively()
    given, start = context(1), noise(1)
    drawn = head.draw(given, start, 2)
    for other in (
        FlowContext(given.condition + 1, given.past, given.symbols, given.measures),
        FlowContext(given.condition, given.past + 1, given.symbols, given.measures),
        FlowContext(given.condition, given.past, given.symbols.flip(1), given.measures),
        FlowContext(given.condition, given.past, given.symbols, given.measures.flip(1)),
    ):
        assert not torch.equal(head.draw(other, start, 2), drawn)


def test_a_head_that_was_trained_without_hidden_states_ignores_them() -> None:
    torch.manual_seed(0)
    head = FlowHead(SMALL)
    torch.nn.init.normal_(head.modulation.weight)
    optimizer = torch.optim.AdamW(head.parameters())
    given = context(4)
    blind = FlowContext(torch.zeros(4, SMALL.condition), given.past, given.symbols, given.measures)
    for _ in range(3):
        optimizer.zero_grad()
        head.loss(noise(4, seed=8), blind, noise(4), torch.rand(4)).backward()
        optimizer.step()
    assert torch.equal(head.draw(given, noise(4), 2), head.draw(blind, noise(4), 2))
    head.loss(noise(4, seed=8), given, noise(4), torch.rand(4)).backward()
    assert head.condition.weight.grad is not None
    assert head.condition.weight.grad.abs().max() > 0


def test_normalised_frames_are_restored() -> None:
    head = FlowHead(SMALL)
    head.frame_mean.normal_()
    head.frame_scale.uniform_(0.5, 2)
    frames = noise(2)
    torch.testing.assert_close(head.restored(head.normalised(frames)), frames)
    assert not torch.allclose(head.normalised(frames), frames)


def test_a_head_learns_to_draw_what_depends_on_the_symbol() -> None:
    torch.manual_seed(0)
    head = FlowHead(SMALL)
    level = torch.linspace(-2, 2, len(ALPHABET) + 1)
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    for step in range(250):
        given = context(32, seed=step)
        target = level[given.symbols[:, PAST_FRAMES:, 1]][..., None].expand(32, TURN_FRAMES, FRAME_SIZE)
        optimizer.zero_grad()
        head.loss(target, given, noise(32, seed=step), torch.rand(32)).backward()
        optimizer.step()
    unseen = context(16, seed=10_000)
    wanted = level[unseen.symbols[:, PAST_FRAMES:, 1]][..., None]
    drawn = head.draw(unseen, noise(16, seed=10_000), 4)
    assert (drawn - wanted).square().mean() < 0.55
    assert wanted.square().mean() > 1


def test_the_standard_head_has_at_most_one_and_a_half_million_weights() -> None:
    head = FlowHead(FlowHeadConfig(condition=384))
    assert sum(parameter.numel() for parameter in head.parameters()) <= 1_500_000
