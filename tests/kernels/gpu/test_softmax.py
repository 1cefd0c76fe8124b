"""Softmax and the language model's head in the interpreter against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.gpu import softmax
from microturn.kernels.gpu.lm_head import VOCABULARY_BLOCK
from microturn.kernels.gpu.tuning import Tile, forced_tile

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("shape", [(2, 3, 10), (2, softmax.MAX_BLOCK + 77), (4, 1), (0, 5)])
def test_softmax_is_close_to_float64(dtype: torch.dtype, limit: float, shape: tuple[int, ...]) -> None:
    x = (3.0 * torch.randn(shape)).to(dtype)
    torch.testing.assert_close(softmax.softmax(x).double(), reference.softmax(x), rtol=limit, atol=1e-9)
    torch.testing.assert_close(
        softmax.log_softmax(x).double(), reference.log_softmax(x), rtol=limit, atol=1e-6
    )


def test_scores_masked_with_minus_infinity_get_nothing() -> None:
    x = torch.randn(2, 40)
    x[:, 7:] = float("-inf")
    got = softmax.softmax(x)
    assert (got[:, 7:] == 0).all() and torch.allclose(got.sum(1), torch.ones(2))


def head(tokens: int, vocabulary: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    h = torch.randn((tokens, width), generator=generator).to(dtype)
    return h, torch.randn((vocabulary, width), generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "vocabulary", "width"), [(1, 50, 64), (19, 300, 72), (65, 129, 64)])
def test_the_head_is_close_to_float64(dtype: torch.dtype, tokens: int, vocabulary: int, width: int) -> None:
    h, weight = head(tokens, vocabulary, width, dtype)
    targets = torch.arange(tokens) * 7 % vocabulary
    targets[-1] = vocabulary - 1
    got, expected = softmax.lm_head_logprob(h, weight, targets), reference.lm_head_logprob(h, weight, targets)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    ids, logits, logsumexp = softmax.lm_head_argmax(h, weight)
    best, largest, total = reference.lm_head_argmax(h, weight)
    assert torch.equal(ids, best)
    torch.testing.assert_close(logits.double(), largest, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logsumexp.double(), total, rtol=1e-5, atol=1e-5)


def test_of_equal_logits_the_lowest_token_wins_within_a_block_and_across_blocks() -> None:
    h, weight = head(3, 3 * VOCABULARY_BLOCK, 64, torch.float32)
    best = 4 * h[1]
    for token in (2 * VOCABULARY_BLOCK + 1, VOCABULARY_BLOCK + 9, VOCABULARY_BLOCK + 70):
        weight[token] = best
    assert softmax.lm_head_argmax(h, weight)[0][1] == VOCABULARY_BLOCK + 9


def test_a_target_outside_the_vocabulary_has_no_probability() -> None:
    h, weight = head(3, 40, 64, torch.float32)
    logprob, logsumexp = softmax.lm_head_logprob(h, weight, torch.tensor([-100, 3, 40]))
    assert logprob.isnan().tolist() == [True, False, True] and logsumexp.isfinite().all()


def test_a_tile_of_another_width_is_refused_as_it_would_change_bits() -> None:
    h, weight = head(3, 40, 64, torch.bfloat16)
    with forced_tile("lm_head", Tile(16, 64, 64, 4, 2)), pytest.raises(ValueError, match="128 columns"):
        softmax.lm_head_argmax(h, weight)


def test_compile_cases_have_unique_names() -> None:
    names = [case.name for case in softmax.compile_cases()]
    assert len(names) == len(set(names))
    assert any(name.startswith("lm_head/") for name in names)
