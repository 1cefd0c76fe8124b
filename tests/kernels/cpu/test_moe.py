from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from microturn.kernels import BadShapeError, reference
from microturn.kernels.evidence import BATCHES, row_evidence, same_bits
from microturn.kernels.ops.linear import prepare_linears
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.router import route

pytestmark = pytest.mark.unit

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
ROWS = BATCHES if IS_LONG else (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 65, 129)
WIDTH, INNER, EXPERTS, SHARED, TOP_K = 72, 52, 7, 1, 3
DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3}


def experts(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = EXPERTS + SHARED
    gate_up = torch.randn(count, 2 * INNER, WIDTH, generator=generator) / WIDTH**0.5
    down = torch.randn(count, WIDTH, INNER, generator=generator) / INNER**0.5
    return gate_up.to(dtype), down.to(dtype)


def routed(x: Tensor) -> tuple[Tensor, Tensor]:
    """What each row of `x` chooses; of a row alone, so that it goes with the row into every batch."""
    generator = torch.Generator().manual_seed(99)
    weight = torch.randn(EXPERTS + SHARED, WIDTH, generator=generator) / WIDTH**0.5
    return route(x, weight, torch.zeros(EXPERTS), TOP_K, SHARED, 1.5)


def drawn(tokens: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 2, 13])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_mixture_agrees_with_float64(seed: int, tokens: int, dtype: torch.dtype) -> None:
    gate_up, down = experts(seed, dtype)
    x = drawn(tokens, seed + 10, dtype)
    ids, weights = routed(x)
    found = moe(x, gate_up, down, ids, weights)
    expected = reference.moe(x, gate_up, down, ids, weights)
    assert found.dtype == dtype
    assert (found.double() - expected).norm() < TOLERANCE[dtype] * expected.norm()


@pytest.mark.timeout(120)  # of which most is the import
def test_router_and_experts_agree_with_a_layer_of_inkling() -> None:
    inkling = pytest.importorskip("transformers.models.inkling.modeling_inkling")
    config = SimpleNamespace(
        n_routed_experts=EXPERTS,
        n_shared_experts=SHARED,
        hidden_size=WIDTH,
        moe_intermediate_size=INNER,
        hidden_act="silu",
        route_scale=1.5,
        num_experts_per_tok=TOP_K,
        _experts_implementation="eager",
    )
    theirs = inkling.InklingMoE(config)
    generator = torch.Generator().manual_seed(3)
    x = drawn(20, 4, torch.float32)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
        theirs.gate.global_scale.fill_(1.0)
        expected = theirs(x)
        shared = theirs.shared_experts
        gate_up = torch.cat(
            [theirs.experts.gate_up_proj, torch.cat([shared.gate_proj, shared.up_proj], dim=1)]
        )
        down = torch.cat([theirs.experts.down_proj, shared.down_proj])
        ids, weights = route(
            x, theirs.gate.weight, theirs.gate.e_score_correction_bias, TOP_K, SHARED, config.route_scale
        )
        found = moe(x, gate_up, down, ids, weights)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.timeout(120)  # which the long form needs on a busy machine
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_has_the_same_bits_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    gate_up, down = experts(5, dtype)

    def mixture(x: Tensor) -> Tensor:
        return moe(x, gate_up, down, *routed(x))

    for seed in range(3 if IS_LONG else 1):
        evidence = row_evidence(
            mixture, drawn(1, seed, dtype)[0], batches=ROWS, neighbours=("random", "large")
        )
        assert evidence.is_invariant, evidence.first


def test_a_mixture_of_pytorchs_own_operators_does_not_pass_this_test() -> None:
    gate_up, down = experts(5, torch.float32)

    def native(x: Tensor) -> Tensor:
        ids, weights = routed(x)
        total = torch.zeros_like(x)
        for expert in range(EXPERTS + SHARED):
            tokens, slots = torch.where(ids == expert)
            gate, up = F.linear(x[tokens], gate_up[expert]).chunk(2, -1)
            outer = F.linear(F.silu(gate) * up, down[expert])
            total.index_add_(0, tokens, outer * weights[tokens, slots, None])
        return total

    row = drawn(1, 0, torch.float32)[0]
    assert row_evidence(native, row, batches=ROWS, neighbours=("random",)).mismatches > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_way_to_compute_the_experts_changes_a_bit(
    dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, prepared = experts(6, dtype), experts(6, dtype)
    prepare_linears(prepared, rows=(1,))
    for tokens in (1, 2, 5, 23):
        x = drawn(tokens, 7, dtype)
        ids, weights = routed(x)
        expected = moe(x, *plain, ids, weights)
        for read_for_a_call in (-(1 << 40), 1 << 40):  # never pair by pair, and always
            monkeypatch.setattr("microturn.kernels.cpu.moe.READ_FOR_A_CALL", read_for_a_call)
            found = moe(x, *prepared, ids, weights)
            assert same_bits(found, expected), f"{tokens} tokens, {threads} threads"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_order_of_tokens_does_not_matter(dtype: torch.dtype) -> None:
    gate_up, down = experts(6, dtype)
    x = drawn(37, 7, dtype)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(8))
    ids, weights = routed(x)
    expected = moe(x, gate_up, down, ids, weights)
    assert same_bits(moe(x[order], gate_up, down, ids[order], weights[order]), expected[order])


def test_slots_are_added_in_their_order() -> None:
    # In float32 (1e8 + 1) - 1e8 is 0 and (1e8 - 1e8) + 1 is 1.
    x = torch.ones(1, 1)
    gate_up = torch.tensor([[[100.0], [0.01]]]).expand(3, 2, 1).contiguous()
    down = torch.tensor([[[1.0]]]).expand(3, 1, 1).contiguous()
    for values, total in (([1e8, 1.0, -1e8], 0.0), ([1e8, -1e8, 1.0], 1.0)):
        weights = torch.tensor([values])
        for ids in ([[0, 1, 2]], [[2, 1, 0]], [[1, 1, 1]]):
            assert moe(x, gate_up, down, torch.tensor(ids, dtype=torch.int32), weights).item() == total


def test_one_expert_may_stand_in_several_slots() -> None:
    gate_up, down = experts(9, torch.float32)
    x = drawn(4, 10, torch.float32)
    ids = torch.full((4, 3), 2, dtype=torch.int32)
    weights = torch.tensor([[0.25, 0.5, 0.25]]).expand(4, 3)
    expected = reference.moe(x, gate_up, down, ids, weights)
    assert torch.allclose(moe(x, gate_up, down, ids, weights).double(), expected, rtol=1e-5, atol=1e-6)


def test_no_tokens_give_no_tokens() -> None:
    gate_up, down = experts(11, torch.float32)
    ids = torch.zeros(0, 3, dtype=torch.int32)
    assert moe(torch.zeros(0, WIDTH), gate_up, down, ids, torch.zeros(0, 3)).shape == (0, WIDTH)


def test_what_does_not_fit_is_refused_by_name() -> None:
    gate_up, down = experts(12, torch.float32)
    x, weights = drawn(2, 13, torch.float32), torch.ones(2, 2)
    ids = torch.tensor([[0, 7], [3, 8]], dtype=torch.int32)
    with pytest.raises(BadShapeError, match="ids to be from 0 to 7, got 8"):
        moe(x, gate_up, down, ids, weights)
    with pytest.raises(BadShapeError, match="ids to be from 0 to 7, got -1"):
        moe(x, gate_up, down, ids - 1, weights)
    with pytest.raises(BadShapeError, match="int32"):
        moe(x, gate_up, down, ids.long(), weights)
    with pytest.raises(BadShapeError, match="weights"):
        moe(x, gate_up, down, ids, weights.bfloat16())
    with pytest.raises(BadShapeError, match=r"down to be \(8, 72, 52\)"):
        moe(x, gate_up, down.transpose(1, 2), ids, weights)
    with pytest.raises(BadShapeError, match="gate_up"):
        moe(x, gate_up.bfloat16(), down, ids, weights)
