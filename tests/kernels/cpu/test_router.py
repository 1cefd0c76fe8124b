from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import BATCHES, row_evidence
from microturn.kernels.ops.router import route

pytestmark = pytest.mark.unit

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
ROWS = BATCHES if IS_LONG else (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65, 129)
WIDTH, EXPERTS, SHARED, TOP_K, SCALE = 100, 17, 2, 4, 2.5
DTYPES = (torch.float32, torch.bfloat16)


def parameters(seed: int, experts: int = EXPERTS) -> tuple[Tensor, Tensor]:
    """A weight whose logits have a deviation of about one, and a correction; float32."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(experts + SHARED, WIDTH, generator=generator) / WIDTH**0.5
    return weight, torch.randn(experts, generator=generator) * 0.1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_routing_agrees_with_float64(seed: int, dtype: torch.dtype) -> None:
    weight, correction = parameters(seed)
    x = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(seed + 10)).to(dtype)
    ids, weights = route(x, weight, correction, TOP_K, SHARED, SCALE)
    expected_ids, expected = reference.route(x, weight, correction, TOP_K, SHARED, SCALE)
    assert (ids.dtype, weights.dtype) == (torch.int32, torch.float32)
    assert torch.equal(ids.long(), expected_ids)
    assert torch.allclose(weights.double(), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.timeout(120)  # of which most is the import
def test_routing_agrees_with_the_router_of_inkling() -> None:
    inkling = pytest.importorskip("transformers.models.inkling.modeling_inkling")
    config = SimpleNamespace(
        n_routed_experts=EXPERTS,
        n_shared_experts=SHARED,
        hidden_size=WIDTH,
        route_scale=SCALE,
        num_experts_per_tok=TOP_K,
    )
    theirs = inkling.InklingTopkRouter(config)
    weight, correction = parameters(4)
    with torch.no_grad():
        theirs.weight.copy_(weight)
        theirs.e_score_correction_bias.copy_(correction)
        theirs.global_scale.fill_(0.7)
        x = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(5))
        _, their_weights, their_ids, gammas = theirs(x)
    ids, weights = route(x, weight, correction, TOP_K, SHARED, SCALE * 0.7)
    # Theirs leaves the order of the chosen open.
    order, their_order = ids[:, :TOP_K].long().argsort(-1), their_ids.argsort(-1)
    assert torch.equal(ids[:, :TOP_K].long().gather(-1, order), their_ids.gather(-1, their_order))
    ours_sorted = weights[:, :TOP_K].gather(-1, order)
    assert torch.allclose(ours_sorted, their_weights.gather(-1, their_order), rtol=5e-6)
    assert torch.allclose(weights[:, TOP_K:], gammas, rtol=5e-6)


def test_equal_scores_are_ordered_by_the_lowest_index() -> None:
    weight = torch.zeros(300 + SHARED, WIDTH)
    correction = torch.zeros(300)
    correction[[250, 40, 41]] = 1.0
    ids, weights = route(torch.ones(9, WIDTH), weight, correction, 6, SHARED, 1.0)
    assert ids.tolist() == [[40, 41, 250, 0, 1, 2, 300, 301]] * 9
    assert torch.allclose(weights, torch.full((9, 8), 1 / 8))


def test_the_correction_moves_the_choice_and_not_the_weights() -> None:
    weight, _ = parameters(6)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(7))
    wanted = torch.zeros(EXPERTS)
    wanted[[3, 5, 7, 9]] = torch.tensor([40.0, 30.0, 20.0, 10.0])
    ids, weights = route(x, weight, wanted, TOP_K, SHARED, SCALE)
    assert ids[:, :TOP_K].tolist() == [[3, 5, 7, 9]] * 5
    scores = torch.sigmoid((x @ weight.T).gather(-1, ids.long()))
    assert torch.allclose(weights, SCALE * scores / scores.sum(-1, keepdim=True), rtol=1e-5)


def test_logits_that_saturate_the_sigmoid_give_finite_weights() -> None:
    weight = torch.ones(3, 1)
    for value in (500.0, -500.0):
        _, weights = route(torch.tensor([[value]]), weight, torch.zeros(2), 1, 1, 1.0)
        assert torch.allclose(weights, torch.tensor([[0.5, 0.5]]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("experts", [17, 64])
def test_a_row_has_the_same_choice_and_bits_in_every_batch(
    experts: int, dtype: torch.dtype, threads: int
) -> None:
    weight, correction = parameters(8, experts)
    for seed in range(3 if IS_LONG else 2):
        row = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)
        evidence = row_evidence(
            lambda x: route(x, weight, correction, TOP_K, SHARED, SCALE),
            row,
            batches=ROWS,
            neighbours=("random", "large"),
        )
        assert evidence.is_invariant, evidence.first


def test_a_router_of_pytorchs_own_operators_does_not_pass_this_test() -> None:
    weight, _ = parameters(8)

    def native(x: Tensor) -> Tensor:
        return torch.softmax(F.logsigmoid(F.linear(x, weight)), -1)

    row = torch.randn(WIDTH, generator=torch.Generator().manual_seed(0))
    assert row_evidence(native, row, batches=ROWS, neighbours=("random",)).mismatches > 0


def test_what_does_not_fit_is_refused_by_name() -> None:
    weight, correction = parameters(9)
    x = torch.zeros(2, WIDTH)
    with pytest.raises(BadShapeError, match=r"weight to be \(17 \+ 3, 100\)"):
        route(x, weight, correction, TOP_K, 3, SCALE)
    with pytest.raises(BadShapeError, match="top_k to be from 1 to 17, got 18"):
        route(x, weight, correction, 18, SHARED, SCALE)
    with pytest.raises(BadShapeError, match="correction"):
        route(x, weight, correction.unsqueeze(0), TOP_K, SHARED, SCALE)
    with pytest.raises(BadShapeError, match=r"x to be \(T, C\)"):
        route(x[0], weight, correction, TOP_K, SHARED, SCALE)
