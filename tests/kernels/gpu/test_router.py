"""The router in the interpreter against float64 and against the one of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.gpu import router

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]

FLOATS = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),
]


def inputs(
    tokens: int, experts: int, width: int, shared: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn((tokens, width), generator=generator).to(dtypes[0])
    weight = torch.randn((experts + shared, width), generator=generator) / width**0.5
    return x, weight.to(dtypes[1]), 0.1 * torch.randn(experts, generator=generator)


@pytest.mark.parametrize("dtypes", FLOATS)
@pytest.mark.parametrize(
    ("tokens", "experts", "width", "top_k", "shared"),
    [
        (1, 12, 64, 3, 1),
        (19, 20, 300, 4, 2),
        (router.SIDE_BY_SIDE_TOKENS + 1, 33, 160, 2, 2),
        (3, 8, 16, 2, 0),
    ],
)
def test_the_choice_is_that_of_float64(
    dtypes: tuple[torch.dtype, torch.dtype], tokens: int, experts: int, width: int, top_k: int, shared: int
) -> None:
    x, weight, correction = inputs(tokens, experts, width, shared, dtypes)
    ids, weights = router.route(x, weight, correction, top_k, shared, 2.5)
    expected_ids, expected = reference.route(x, weight, correction, top_k, shared, 2.5)
    assert ids.dtype == torch.int32 and torch.equal(ids.long(), expected_ids)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-5, atol=1e-6)


def test_of_equal_scores_the_lowest_expert_is_chosen_first() -> None:
    x, weight, _ = inputs(5, 16, 64, 1, FLOATS[0])
    x, weight = (2 * x).round(), (16 * weight).round() / 8  # exact in any order of the sum
    weight[[3, 9, 14]] = weight[5].clone()
    ids, _ = router.route(x, weight, torch.zeros(16), 16, 1, 1.0)
    for row in ids.tolist():
        places = [row.index(expert) for expert in (3, 5, 9, 14)]
        assert places == list(range(places[0], places[0] + 4))
        assert sorted(row) == list(range(17))


def test_the_correction_chooses_but_does_not_weigh() -> None:
    x, weight, correction = inputs(4, 12, 64, 1, FLOATS[0])
    correction[7] = 10.0
    ids, weights = router.route(x, weight, correction, 2, 1, 1.0)
    assert (ids[:, 0] == 7).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert torch.allclose(weights, reference.route(x, weight, correction, 2, 1, 1.0)[1].float(), atol=1e-6)


def test_a_token_of_nan_stays_alone_and_names_existing_experts() -> None:
    x, weight, correction = inputs(6, 12, 64, 2, FLOATS[1])
    clean_ids, clean = router.route(x, weight, correction, 3, 2, 1.0)
    x[2] = float("nan")
    ids, weights = router.route(x, weight, correction, 3, 2, 1.0)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(ids[others], clean_ids[others]) and torch.equal(weights[others], clean[others])
    assert weights[2].isnan().all() and int(ids[2].min()) >= 0 and int(ids[2].max()) < 14


def test_no_tokens_are_no_error() -> None:
    x, weight, correction = inputs(1, 12, 64, 2, FLOATS[0])
    ids, weights = router.route(x[:0], weight, correction, 3, 2, 1.0)
    assert ids.shape == weights.shape == (0, 5)


def test_parts_of_the_sum_are_a_constant_of_the_width() -> None:
    assert [router.split_depth(width) for width in (64, 1024, 1025, 4096, 6000)] == [128, 128, 256, 512, 768]
