"""The short convolution's Triton kernel, interpreted."""

from __future__ import annotations

import pytest
import torch

from microturn.kernels import reference_attention, use_backend
from microturn.kernels.evidence import same_bits
from microturn.kernels.gpu.short_conv import short_conv
from microturn.kernels.ops import short_conv as ops

pytestmark = pytest.mark.unit

GENERATOR = torch.Generator().manual_seed(3)
X, WEIGHT = torch.randn(9, 40, generator=GENERATOR), torch.randn(40, 4, generator=GENERATOR)
STATE = torch.randn(4, 3, 40, generator=GENERATOR)
STARTS = torch.tensor([0, 1, 1, 3, 9], dtype=torch.int32)


def test_sessions_of_any_length_agree_with_the_oracle() -> None:
    with use_backend("interpreter"):
        y, state = ops.short_conv(X, WEIGHT, STATE, STARTS)
    expected, expected_state = reference_attention.short_conv(X, WEIGHT, STATE, STARTS)
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(state.double(), expected_state)


def test_bfloat16_is_rounded_once() -> None:
    x, state = X.bfloat16(), STATE.bfloat16()
    y, _ = short_conv(x, WEIGHT.bfloat16(), state, STARTS)
    expected, _ = reference_attention.short_conv(x, WEIGHT.bfloat16(), state, STARTS)
    torch.testing.assert_close(y, expected.bfloat16(), atol=1e-6, rtol=2**-7)


def test_a_session_cut_into_calls_has_the_bits_of_one_call() -> None:
    whole, last = short_conv(X, WEIGHT, STATE[:1], torch.tensor([0, 9], dtype=torch.int32))
    state, parts = STATE[:1], []
    for begin, end in ((0, 2), (2, 3), (3, 9)):
        bounds = torch.tensor([0, end - begin], dtype=torch.int32)
        part, state = short_conv(X[begin:end], WEIGHT, state, bounds)
        parts.append(part)
    assert same_bits(torch.cat(parts), whole)
    assert same_bits(state, last)


def test_without_tokens_the_state_stays() -> None:
    y, state = short_conv(X[:0], WEIGHT, STATE[:1], torch.tensor([0, 0], dtype=torch.int32))
    assert y.shape == (0, 40)
    assert same_bits(state, STATE[:1])
