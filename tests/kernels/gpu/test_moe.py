"""The mixture of experts in the interpreter: sorting, ragged blocks, slots, and rows that stay alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.gpu import moe
from microturn.kernels.gpu.expert_order import most_blocks, ordered_by_expert
from microturn.kernels.gpu.tuning import Tile, forced_tile

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def inputs(tokens: int, experts: int, slots: int, width: int, inner: int, dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(tokens + experts)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x = normal(tokens, width).to(dtype)
    gate_up = (normal(experts, 2 * inner, width) / width**0.5).to(dtype)
    down = (normal(experts, width, inner) / inner**0.5).to(dtype)
    ids = normal(tokens, experts).argsort(1)[:, :slots].int()
    return x, gate_up, down, ids, torch.rand((tokens, slots), generator=generator)


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("tokens", "experts", "slots", "width", "inner"),
    [(1, 8, 3, 64, 48), (5, 6, 2, 40, 24), (9, 6, 2, 40, 24), (40, 7, 4, 80, 32), (70, 3, 1, 40, 24)],
)
def test_any_number_of_tokens_is_close_to_float64(
    dtype: torch.dtype, limit: float, tokens: int, experts: int, slots: int, width: int, inner: int
) -> None:
    case = inputs(tokens, experts, slots, width, inner, dtype)
    assert relative_error(moe.moe(*case), reference.moe(*case)) < limit


def test_all_tokens_on_one_expert_are_cut_into_blocks() -> None:
    case = inputs(37, 5, 1, 64, 32, torch.float32)
    case[3].fill_(3)
    assert relative_error(moe.moe(*case), reference.moe(*case)) < 1e-6


def test_a_token_does_not_see_its_neighbours_nor_their_number() -> None:
    x, gate_up, down, ids, weights = inputs(30, 6, 3, 64, 32, torch.bfloat16)
    expected = reference.moe(x, gate_up, down, ids, weights)
    poisoned_x = torch.full_like(x, float("nan"))
    poisoned_x[[0, 17, 29]] = x[[0, 17, 29]]
    together = moe.moe(poisoned_x, gate_up, down, ids, weights)
    for token in (0, 17, 29):
        one = slice(token, token + 1)
        assert relative_error(together[one], expected[one]) < 1e-2
        alone = moe.moe(x[one], gate_up, down, ids[one], weights[one])
        assert relative_error(alone, expected[one]) < 1e-2
    assert together.isnan().all(1).sum() == 27


@pytest.mark.parametrize("tokens", [2, 20])
def test_an_unknown_expert_makes_its_token_nan_and_no_other(tokens: int) -> None:
    case = inputs(tokens, 6, 2, 40, 24, torch.float32)
    case[3][1, 1] = 99
    case[3][0, 0] = -1
    assert moe.moe(*case).isnan().all(1).nonzero().flatten().tolist() == [0, 1]


def test_no_tokens_are_no_error() -> None:
    x, gate_up, down, ids, weights = inputs(1, 6, 2, 40, 24, torch.float32)
    assert moe.moe(x[:0], gate_up, down, ids[:0], weights[:0]).shape == (0, 40)


@pytest.mark.parametrize(
    ("pairs", "experts", "rows"), [(1, 4, 16), (100, 7, 16), (2500, 5, 64), (20, 60, 16)]
)
def test_pairs_are_sorted_stably_and_every_one_is_in_one_block(pairs: int, experts: int, rows: int) -> None:
    ids = torch.randint(experts, (pairs,), generator=torch.Generator().manual_seed(pairs), dtype=torch.int32)
    cut = ordered_by_expert(ids, experts, rows)
    order = cut.order.long()
    assert torch.equal(order, torch.sort(ids, stable=True).indices)
    count = int(cut.count)
    assert count == sum(-(-int(size) // rows) for size in torch.bincount(ids, minlength=experts))
    assert count <= most_blocks(pairs, experts, rows) == len(cut.starts)
    covered: list[int] = []
    for expert, start, end in zip(cut.experts[:count], cut.starts[:count], cut.ends[:count], strict=True):
        places = range(int(start), min(int(end), int(start) + rows))
        assert all(int(ids[order[place]]) == int(expert) for place in places)
        covered.extend(places)
    assert covered == list(range(pairs))


def test_tiles_of_both_products_must_have_the_same_rows() -> None:
    case = inputs(30, 6, 2, 40, 24, torch.bfloat16)
    with forced_tile("moe_down", Tile(128, 64, 64, 4, 2)), pytest.raises(ValueError, match="same rows"):
        moe.moe(*case)


def test_compile_cases_have_unique_names() -> None:
    names = [case.name for case in moe.compile_cases()]
    assert len(names) == len(set(names))
    assert any("unsorted" in name for name in names)
