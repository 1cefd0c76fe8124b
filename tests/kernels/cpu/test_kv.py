"""New keys and values in their pages: as the oracle has them, bit for bit the same in any call, and nothing else touched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from microturn.kernels import BadShapeError, reference_attention
from microturn.kernels.cpu.norm import rms_norm
from microturn.kernels.evidence import same_bits
from microturn.kernels.kv import CachedSession, PagePool
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.short_conv import short_conv

pytestmark = pytest.mark.unit

GROUPS, HEAD_DIM, TAPS, PAGE, PAGES = 3, 20, 4, 16, 12
WIDTH = GROUPS * HEAD_DIM
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 6e-3}


def drawn(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def starts(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32)


def weights(dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "k_conv": drawn(WIDTH, TAPS, seed=1, dtype=dtype),
        "v_conv": drawn(WIDTH, TAPS, seed=2, dtype=dtype),
        "k_norm": drawn(HEAD_DIM, seed=3, dtype=dtype),
    }


def states(sessions: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: torch.zeros(sessions, TAPS - 1, WIDTH, dtype=dtype) for name in ("k_state", "v_state")}


def pool(dtype: torch.dtype) -> dict[str, Tensor]:
    shape = (PAGES, GROUPS, PAGE, HEAD_DIM)
    return {name: torch.full(shape, torch.nan, dtype=dtype) for name in ("keys", "values")}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_it_computes_what_the_oracle_computes_and_touches_nothing_else(dtype: torch.dtype) -> None:
    k, v = (drawn(7, WIDTH, seed=seed, dtype=dtype) for seed in (4, 5))
    history = {name: drawn(2, TAPS - 1, WIDTH, seed=6, dtype=dtype) for name in ("k_state", "v_state")}
    slots = torch.tensor([30, 31, 32, 150, 3, 4, 191])
    cache = pool(dtype)
    arguments = weights(dtype) | history | {"slots": slots, "starts": starts([4, 3])}
    expected = reference_attention.append_kv(k, v, eps=1e-6, **arguments, **cache)
    kept = [tensor.clone() for tensor in (k, v, *history.values())]
    found = append_kv(k, v, eps=1e-6, **arguments, **cache)
    for one, other in zip((*found, cache["keys"], cache["values"]), expected, strict=True):
        torch.testing.assert_close(one.double(), other, atol=TOLERANCES[dtype], rtol=0, equal_nan=True)
    written = (~cache["keys"].isnan()).any(-1).any(1).flatten()
    assert written.nonzero().flatten().tolist() == sorted(slots.tolist())
    assert all(same_bits(a, b) for a, b in zip((k, v, *history.values()), kept, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_it_is_the_convolution_and_the_norm_one_after_the_other(dtype: torch.dtype) -> None:
    k, v = (drawn(9, WIDTH, seed=seed, dtype=dtype) for seed in (4, 5))
    given_weights, history, cache = weights(dtype), states(1, dtype), pool(dtype)
    slots = torch.arange(20, 29)
    append_kv(k, v, eps=1e-5, slots=slots, starts=starts([9]), **given_weights, **history, **cache)
    convolved, _ = short_conv(k, given_weights["k_conv"], history["k_state"], starts([9]))
    expected = rms_norm(convolved.view(9, GROUPS, HEAD_DIM), given_weights["k_norm"], 1e-5)
    assert same_bits(cache["keys"][slots // PAGE, :, slots % PAGE], expected)
    expected, _ = short_conv(v, given_weights["v_conv"], history["v_state"], starts([9]))
    assert same_bits(cache["values"][slots // PAGE, :, slots % PAGE].flatten(1), expected)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=3),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_any_cut_into_calls_leaves_the_same_bits_in_the_cache(
    schedule: list[tuple[int, int, int]], dtype: torch.dtype
) -> None:
    sources = [
        [drawn(sum(counts), WIDTH, seed=10 * n + part, dtype=dtype) for part in (4, 5)]
        for n, counts in enumerate(schedule)
    ]
    cache, pages = pool(dtype), PagePool(PAGES, PAGE)
    sessions = [CachedSession(pages) for _ in schedule]
    history = states(len(schedule), dtype)
    for call in range(3):
        counts = [counts[call] for counts in schedule]
        begins = [session.length for session in sessions]
        slots = [
            slot
            for session, count in zip(sessions, counts, strict=True)
            for slot in session.append(count).slots
        ]
        k, v = (
            torch.cat([source[part][b : b + n] for source, b, n in zip(sources, begins, counts, strict=True)])
            for part in (0, 1)
        )
        placed = {"slots": torch.tensor(slots, dtype=torch.int64), "starts": starts(counts)}
        new = append_kv(k, v, eps=1e-6, **placed, **weights(dtype), **history, **cache)
        history = dict(zip(("k_state", "v_state"), new, strict=True))
    for (k, v), session, index in zip(sources, sessions, range(3), strict=False):
        alone = pool(dtype)
        placed = {"slots": torch.arange(len(k)), "starts": starts([len(k)])}
        last = append_kv(k, v, eps=1e-6, **placed, **weights(dtype), **states(1, dtype), **alone)
        for name in ("keys", "values"):
            assert same_bits(
                _tokens(cache[name], session.pages, len(k)), _tokens(alone[name], (0, 1, 2), len(k))
            )
        assert all(same_bits(history[name][index], part[0]) for name, part in zip(history, last, strict=True))


def _tokens(cached: Tensor, pages: tuple[int, ...], count: int) -> Tensor:
    """(count, G, D) of a session on `pages`."""
    return cached[list(pages)].transpose(1, 2).flatten(0, 1)[:count].contiguous()


def test_the_registered_operator_matches_its_schema_and_its_fake() -> None:
    k, v = (drawn(3, WIDTH, seed=seed, dtype=torch.float32) for seed in (4, 5))
    given_weights, history = weights(torch.float32), states(1, torch.float32)
    keys, values = (torch.zeros(PAGES, GROUPS, PAGE, HEAD_DIM) for _ in range(2))
    arguments = (
        k,
        v,
        given_weights["k_conv"],
        given_weights["v_conv"],
        *history.values(),
        given_weights["k_norm"],
        1e-6,
        keys,
        values,
        torch.arange(3),
        starts([3]),
    )
    torch.library.opcheck(
        torch.ops.microturn.append_kv.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"v": torch.zeros(2, WIDTH)}, "v"),
        ({"k_norm": torch.ones(HEAD_DIM + 1)}, "k_norm"),
        ({"slots": torch.arange(2)}, "slots"),
        ({"slots": torch.arange(3, dtype=torch.int32)}, "slots"),
        ({"keys": torch.zeros(PAGES, GROUPS, PAGE, HEAD_DIM + 1)}, "keys"),
        ({"values": torch.zeros(PAGES, GROUPS, PAGE, HEAD_DIM, dtype=torch.bfloat16)}, "values"),
        ({"keys": torch.zeros(PAGES, GROUPS, PAGE, 2 * HEAD_DIM)[..., ::2]}, "contiguous"),
        ({"k_state": torch.zeros(2, TAPS - 1, WIDTH)}, "append_kv: expected state"),
        ({"starts": starts([2])}, "rising from 0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, Tensor], word: str) -> None:
    k, v = (drawn(3, WIDTH, seed=seed, dtype=torch.float32) for seed in (4, 5))
    fitting = weights(torch.float32) | states(1, torch.float32) | pool(torch.float32)
    fitting |= {"k": k, "v": v, "slots": torch.arange(3), "starts": starts([3])}
    append_kv(eps=1e-6, **fitting)
    with pytest.raises(BadShapeError, match=word):
        append_kv(eps=1e-6, **(fitting | changes))
