"""The short convolution on the CPU: right by the oracle, and the same bits however the tokens were cut into calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from microturn.kernels import BadShapeError, reference_attention
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.ops.short_conv import short_conv

pytestmark = pytest.mark.unit

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def starts(*counts: int) -> Tensor:
    return torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("taps", [1, 2, 4, 7])
@pytest.mark.parametrize("counts", [(9,), (1,), (5, 0, 1, 7), (0,), (0, 0), (2, 2)])
def test_it_computes_what_the_oracle_computes(dtype: torch.dtype, taps: int, counts: tuple[int, ...]) -> None:
    x, weight = drawn(sum(counts), 50, dtype=dtype), drawn(50, taps, seed=1, dtype=dtype)
    state = drawn(len(counts), taps - 1, 50, seed=2, dtype=dtype)
    before = state.clone()
    y, new_state = short_conv(x, weight, state, starts(*counts))
    expected, expected_state = reference_attention.short_conv(x, weight, state, starts(*counts))
    torch.testing.assert_close(y.double(), expected, atol=TOLERANCES[dtype], rtol=0)
    assert (y.dtype, new_state.dtype) == (dtype, dtype)
    assert torch.equal(new_state.double(), expected_state)
    assert same_bits(state, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_session_has_the_same_bits_in_any_batch(dtype: torch.dtype) -> None:
    weight, state = drawn(67, 4, dtype=dtype), drawn(3, 67, seed=1, dtype=dtype)

    def one_token_each(rows: Tensor) -> tuple[Tensor, Tensor]:
        count = len(rows)
        return short_conv(rows, weight, state.expand(count, -1, -1).contiguous(), starts(*[1] * count))

    evidence = row_evidence(one_token_each, drawn(67, seed=2, dtype=dtype))
    assert evidence.is_invariant, evidence


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.integers(1, 5),
)
def test_any_cut_into_calls_gives_the_bits_of_one_call(
    schedule: list[list[int]], dtype: torch.dtype, taps: int
) -> None:
    weight = drawn(19, taps, dtype=dtype)
    sources = [drawn(sum(counts), 19, seed=n + 1, dtype=dtype) for n, counts in enumerate(schedule)]
    state = torch.zeros((len(schedule), taps - 1, 19), dtype=dtype)
    found: list[list[Tensor]] = [[] for _ in schedule]
    for call in range(4):
        counts = [counts[call] for counts in schedule]
        done = [sum(counts[:call]) for counts in schedule]
        rows = [source[n : n + new] for source, n, new in zip(sources, done, counts, strict=True)]
        y, state = short_conv(torch.cat(rows), weight, state, starts(*counts))
        for parts, part in zip(found, torch.split(y, counts), strict=True):
            parts.append(part)
    for source, parts, kept in zip(sources, found, state, strict=True):
        whole, last = short_conv(source, weight, torch.zeros_like(state[:1]), starts(len(source)))
        assert same_bits(torch.cat(parts), whole) and same_bits(kept, last[0])


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_bits() -> None:
    x, weight, state = drawn(300, 1037), drawn(1037, 4, seed=1), drawn(1, 3, 1037, seed=2)
    found = []
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        found.append(short_conv(x, weight, state, starts(300))[0])
    assert all(same_bits(y, found[0]) for y in found)


def test_the_order_of_the_sum_is_seen_in_the_bits_so_these_comparisons_can_fail() -> None:
    x, weight = drawn(64, 512), drawn(512, 4, seed=1)
    y, _ = short_conv(x, weight, torch.zeros(1, 3, 512), starts(64))
    residual_first = x[3:] + x[:-3] * weight[:, 0]
    for tap in range(1, 4):
        residual_first = residual_first + x[tap : 61 + tap] * weight[:, tap]
    torch.testing.assert_close(residual_first, y[3:])
    assert not same_bits(residual_first, y[3:].clone())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_it_agrees_with_the_short_convolution_of_inkling() -> None:
    inkling = pytest.importorskip("transformers.models.inkling.modeling_inkling")
    module = inkling.InklingShortConvolution(24, 4, layer_idx=0, conv_idx=0)
    x = drawn(1, 20, 24)
    with torch.no_grad():
        expected = module(x)[0]
        y, _ = short_conv(x[0], module.conv1d.weight[:, 0], torch.zeros(1, 3, 24), starts(20))
    torch.testing.assert_close(y, expected, atol=2e-6, rtol=0)


def test_the_registered_operator_matches_its_schema_and_its_fake() -> None:
    torch.library.opcheck(
        torch.ops.microturn.short_conv.default,
        (drawn(5, 8), drawn(8, 4), drawn(2, 3, 8), starts(2, 3)),
        test_utils=("test_schema", "test_faketensor"),
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"weight": torch.zeros(7, 4)}, "weight"),
        ({"state": torch.zeros(2, 4, 8)}, "state"),
        ({"state": torch.zeros(2, 3, 8, dtype=torch.bfloat16)}, "state"),
        ({"starts": torch.tensor([0, 2, 5])}, "int32"),
        ({"starts": starts(2, 2)}, "rising from 0 to 5"),
        ({"starts": starts(6, -1)}, "rising from 0 to 5"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, Tensor], word: str) -> None:
    fitting = {"x": drawn(5, 8), "weight": drawn(8, 4), "state": drawn(2, 3, 8), "starts": starts(2, 3)}
    short_conv(**fitting)
    with pytest.raises(BadShapeError, match=word):
        short_conv(**(fitting | changes))


def test_places_that_were_found_in_inference_mode_serve_outside_it() -> None:
    x, weight, state = torch.randn(5, 8), torch.randn(8, 4), torch.zeros(2, 3, 8)
    starts = torch.tensor([0, 2, 5], dtype=torch.int32)
    with torch.inference_mode():
        expected, _ = short_conv(x, weight, state, starts)
    y, _ = short_conv(x.requires_grad_(), weight.requires_grad_(), state, starts)
    assert torch.equal(y, expected)
