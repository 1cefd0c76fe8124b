"""How a free run chooses: greedily as it is served, or with a probability that END has to reach."""

from __future__ import annotations

import pytest
import torch

from microturn.interaction_model.native.vocabulary import SIZE, Token, heard_token
from microturn.interaction_model.training.cast import estimated_word_ms
from microturn.interaction_model.training.free_run import FreeRunner
from microturn.interaction_model.training.token_choice import end_below, greedy
from tests.interaction_model.native.small_models import small_network
from tests.interaction_model.training.small_run import stored

pytestmark = pytest.mark.unit

RED, GREEN = heard_token("red"), heard_token("green")


def scores(end: float, red: float, green: float) -> torch.Tensor:
    """Of three tokens with these probabilities, and of none other: `(1, V)`, shifted, as scores may be."""
    found = torch.full((1, SIZE), -torch.inf)
    found[0, [int(Token.END), RED, GREEN]] = torch.tensor([end, red, green]).log() + 3
    return found


@pytest.mark.parametrize(
    ("limit", "end", "chosen"),
    [(0.5, 0.4, RED), (0.5, 0.6, Token.END), (0.3, 0.4, Token.END), (0.9, 0.8, RED), (0.3, 0.2, RED)],
)
def test_end_is_chosen_where_it_is_as_likely_as_it_has_to_be(limit: float, end: float, chosen: int) -> None:
    red = 0.6 * (1 - end)
    assert end_below(limit)(scores(end, red, 1 - end - red)).tolist() == [chosen]


def test_greedily_end_wins_when_words_share_what_is_likely() -> None:
    torn = scores(0.4, 0.35, 0.25)
    assert greedy(torn).tolist() == [Token.END] and end_below(0.5)(torn).tolist() == [RED]
    assert end_below(0.5)(torn.bfloat16()).tolist() == [RED]


def test_each_session_is_chosen_for_alone() -> None:
    both = torch.cat([scores(0.4, 0.35, 0.25), scores(0.7, 0.1, 0.2), scores(0.1, 0.2, 0.7)])
    before = both.clone()
    assert end_below(0.5)(both).tolist() == [RED, Token.END, GREEN]
    assert torch.equal(both, before)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1])
def test_a_limit_that_is_no_probability_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="limit"):
        end_below(limit)


def test_a_free_run_does_more_the_likelier_end_has_to_be() -> None:
    torch.manual_seed(0)
    network = small_network()
    scenes = [stored(0)]

    def emitted(limit: float) -> int:
        (outputs,) = FreeRunner(network, scenes, estimated_word_ms, end_below(limit)).run()
        return sum(map(len, outputs))

    # Of a network that has learned nothing every token is about as likely as any other.
    assert emitted(1e-4) == 0 < emitted(0.5)
    usual = FreeRunner(network, scenes, estimated_word_ms).run()
    assert usual == FreeRunner(network, scenes, estimated_word_ms, greedy).run()
