"""Norms and means in the interpreter against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels import reference
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.gpu import norm
from microturn.kernels.gpu.launch import whole_rows

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("poisoned")]

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 8e-3}
EPS = 1e-6


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [1, 100, 512])
def test_norms_of_any_width_are_close_to_float64(dtype: torch.dtype, width: int) -> None:
    x, residual, shift, scale = torch.randn(4, 6, width).to(dtype)
    weight = torch.randn(width).to(dtype)
    limit = TOLERANCE[dtype]
    assert relative_error(norm.rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS)) < limit
    got = norm.adaptive_rms_norm(x, shift, scale, EPS)
    assert relative_error(got, reference.adaptive_rms_norm(x, shift, scale, EPS)) < limit
    pairs = zip(
        norm.add_rms_norm(x, residual, weight, EPS),
        reference.add_rms_norm(x, residual, weight, EPS),
        strict=True,
    )
    assert all(relative_error(one, other) < limit for one, other in pairs)
    assert relative_error(norm.mean(x), reference.mean(x)) < limit


def test_the_norm_rounds_before_it_multiplies_with_the_weight() -> None:
    x = torch.randn(3, 64).half()
    weight = torch.full((64,), 3.0).half()
    rounded = reference.rms_normalised(x, EPS).half()
    assert same_bits(norm.rms_norm(x, weight, EPS), weight * rounded)


def test_leading_dimensions_are_kept_and_nothing_is_no_error() -> None:
    x, weight = torch.randn(2, 3, 40), torch.randn(40)
    assert norm.rms_norm(x, weight, EPS).shape == (2, 3, 40)
    assert norm.mean(x).shape == (2, 3)
    assert norm.rms_norm(x[:0], weight, EPS).shape == (0, 3, 40)


def test_a_row_has_the_same_bits_in_every_batch() -> None:
    weight = torch.randn(100)
    evidence = row_evidence(lambda x: norm.rms_norm(x, weight, EPS), torch.randn(100), batches=(1, 5))
    assert evidence.is_invariant, evidence.first


def test_a_view_that_begins_at_an_odd_place_is_copied() -> None:
    flat = torch.randn(4 * 64 + 1)
    assert whole_rows(flat[:-1].view(4, 64)).data_ptr() == flat.data_ptr()
    moved = whole_rows(flat[1:].view(4, 64))
    assert moved.data_ptr() % 16 == 0 and same_bits(moved, flat[1:].view(4, 64))
    assert whole_rows(flat[:-1].view(64, 4).t()).is_contiguous()


def test_compile_cases_have_unique_names() -> None:
    names = [case.name for case in norm.compile_cases()]
    assert len(names) == len(set(names)) == 4 * 2 * len(norm.WIDTHS)
