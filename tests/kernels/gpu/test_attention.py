"""Paged attention's Triton kernels, interpreted: both against the oracle, and against each other bit by bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference_attention, use_backend
from microturn.kernels.evidence import same_bits
from microturn.kernels.gpu.attention import Call, RowTile, attend_fused, attend_split, row_tiles
from microturn.kernels.gpu.tuning import MmaClass, forced_class
from microturn.kernels.ops.attention import attention
from microturn.kernels.spec import GPU_SPLIT

pytestmark = pytest.mark.unit

TILE = RowTile(rows=16, num_warps=4, num_stages=1)
SCALE = 0.3

Kernel = Callable[[Call, RowTile], Tensor]


def _call(
    new: Sequence[int],
    old: Sequence[int],
    *,
    heads: int = 2,
    groups: int = 1,
    width: int = 16,
    page: int = 16,
    window: int = 0,
    sinks: int = 0,
    reach: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Call:
    """Sessions that hold `old` tokens and get `new` ones, on shuffled pages; whatever nobody may read is NaN."""
    generator = torch.Generator().manual_seed(len(new) + sum(old))
    lengths = [held + added for held, added in zip(old, new, strict=True)]
    counts = [-(-length // page) for length in lengths]
    free = iter((torch.randperm(sum(counts), generator=generator) + 1).tolist())
    table = torch.full((len(new), max(counts) + 1), -1, dtype=torch.int32)
    keys, values = (
        torch.full((sum(counts) + 1, groups, page, width), torch.nan, dtype=dtype) for _ in range(2)
    )
    for session, length in enumerate(lengths):
        for place in range(counts[session]):
            begin, number = place * page, next(free)
            if window and sinks <= begin and begin + page <= old[session] - window + 1:
                continue
            table[session, place] = number
            held = min(page, length - begin)
            for pool in (keys, values):
                pool[number, :, :held] = torch.randn(groups, held, width, generator=generator).to(dtype)
    tokens = sum(new)
    q = torch.randn(tokens, heads, width, generator=generator).to(dtype)
    bias = None if reach is None else torch.randn(tokens, heads, reach, generator=generator).to(dtype)
    starts = torch.tensor([0, *itertools.accumulate(new)], dtype=torch.int32)
    sizes = torch.tensor(lengths, dtype=torch.int32)
    return Call(q, keys, values, table, starts, sizes, SCALE, window, sinks, bias)


def _oracle(call: Call) -> Tensor:
    return reference_attention.attention(
        call.q,
        call.keys,
        call.values,
        call.page_table,
        call.starts,
        call.lengths,
        scale=call.scale,
        window=call.window,
        sinks=call.sinks,
        distance_bias=call.distance_bias,
    )


CALLS = {
    "both sides of a split's boundary": _call([2], [255]),
    "the last key of a split": _call([1], [255]),
    "both sides of a page's boundary": _call([3], [14]),
    "an empty session, a new one and a long one": _call([2, 0, 3, 1], [258, 20, 0, 40], heads=4, groups=2),
    "a window's edge, a sink and pages given back": _call([3], [299], window=40, sinks=3),
    "a window over a split's boundary": _call([2], [270], window=20),
    "a window of one key": _call([2], [33], window=1),
    "a bias shorter than the context": _call([3], [40], reach=17),
    "pages larger than a block of keys": _call([2], [70], page=64),
    "three heads of 24 numbers": _call([2], [37], heads=3, width=24),
    "more heads in a group than rows": _call([2], [20], heads=20),
}


@pytest.mark.parametrize("name", CALLS)
def test_both_kernels_agree_with_the_oracle_and_with_each_other_in_every_bit(name: str) -> None:
    call = CALLS[name]
    split, fused = attend_split(call, TILE), attend_fused(call, TILE)
    torch.testing.assert_close(fused.double(), _oracle(call), atol=2e-6, rtol=2e-6)
    assert same_bits(split, fused)


@pytest.mark.parametrize("kernel", [attend_split, attend_fused])
def test_bfloat16_is_multiplied_as_bfloat16(kernel: Kernel) -> None:
    call = _call([2], [60], dtype=torch.bfloat16, reach=8)
    torch.testing.assert_close(kernel(call, TILE).double(), _oracle(call), atol=2e-2, rtol=2e-2)


def test_the_number_of_rows_in_a_program_changes_no_result() -> None:
    call = _call([5, 4], [250, 3])
    few, many = attend_fused(call, TILE), attend_fused(call, RowTile(rows=64, num_warps=4, num_stages=1))
    torch.testing.assert_close(few, many, atol=1e-6, rtol=1e-6)


def test_tokens_one_at_a_time_give_what_they_give_together() -> None:
    together = _call([4], [254])
    whole = attend_fused(together, TILE)
    for place in range(4):
        starts = torch.tensor([0, 1], dtype=torch.int32)
        length = together.lengths - 3 + place
        alone = Call(
            together.q[place : place + 1], together.keys, together.values, together.page_table, starts, length,
            SCALE, 0, 0, None,
        )  # fmt: skip
        torch.testing.assert_close(attend_split(alone, TILE)[0], whole[place], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kernel", [attend_split, attend_fused])
def test_a_session_has_the_same_bits_alone_and_beside_others(kernel: Kernel) -> None:
    both = _call([9, 2], [40, 30])
    together = kernel(both, TILE)
    for session, (begin, end) in enumerate(((0, 9), (9, 11))):
        alone = replace(
            both,
            q=both.q[begin:end],
            page_table=both.page_table[session : session + 1],
            starts=torch.tensor([0, end - begin], dtype=torch.int32),
            lengths=both.lengths[session : session + 1],
        )
        assert same_bits(kernel(alone, TILE), together[begin:end])


def test_a_bias_of_no_reach_is_no_bias() -> None:
    call = _call([2], [20])
    with use_backend("interpreter"):
        found = attention(
            call.q, call.keys, call.values, call.page_table, call.starts, call.lengths,
            scale=SCALE, distance_bias=torch.empty(2, 2, 0),
        )  # fmt: skip
    torch.testing.assert_close(found.double(), _oracle(call), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("new", [[1], [9, 8]])
def test_the_operator_runs_the_kernels_under_the_interpreter(new: list[int]) -> None:
    call = _call(new, [257, 20][: len(new)])
    with use_backend("interpreter"):
        found = attention(
            call.q, call.keys, call.values, call.page_table, call.starts, call.lengths, scale=SCALE
        )
    torch.testing.assert_close(found.double(), _oracle(call), atol=2e-6, rtol=2e-6)


def test_a_call_without_tokens_gives_nothing() -> None:
    call = _call([0], [20])
    with use_backend("interpreter"):
        found = attention(
            call.q, call.keys, call.values, call.page_table, call.starts, call.lengths, scale=SCALE
        )
    assert found.shape == (0, 2, 16)


def test_no_block_of_rows_sees_more_splits_than_it_has_slots_for() -> None:
    size, held = GPU_SPLIT.keys, 8
    for window, sinks, tokens in itertools.product((1, 2, 255, 256, 257, 512), (0, 1, 256, 257), (1, 2, 16)):
        tile = RowTile(rows=tokens, num_warps=1, num_stages=1)
        q, pool = torch.empty(1, 1, 16), torch.empty(1, 1, size, 16)
        table, one = torch.empty(1, held, dtype=torch.int32), torch.empty(1, dtype=torch.int32)
        slots = Call(q, pool, pool, table, one, one, SCALE, window, sinks, None).slots(tile)
        for lowest in range(0, held * size - tokens, 51):
            positions = range(lowest, lowest + tokens)
            seen = {k // size for p in positions for k in (p, max(p - window + 1, 0))}
            near = range(min(seen), max(seen) + 1)
            sinks_seen = {k // size for k in range(0, min(sinks, lowest + 1), size)}
            sinks_seen |= {max(min(sinks, lowest + 1) - 1, 0) // size} if sinks else set()
            assert len({*near, *sinks_seen}) <= slots


@pytest.mark.parametrize(("mma", "same_class"), [("hmma", True), ("hgmma", True), ("equal", False)])
def test_few_and_many_queries_are_multiplied_by_one_class_of_instruction(
    mma: MmaClass, same_class: bool
) -> None:
    with forced_class(mma):
        few, many = row_tiles(torch.bfloat16, torch.device("cpu"))
    assert ((few.rows >= 64) == (many.rows >= 64)) == same_class
