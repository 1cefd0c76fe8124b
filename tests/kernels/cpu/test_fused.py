"""Sizes in which the fused kernel may be called: the bits of more rows and of whole splits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels.cpu import fused
from microturn.kernels.cpu.fused import Form, Partial, attend_each, form_for
from microturn.kernels.evidence import same_bits
from microturn.kernels.spec import CPU_NEAR_SPLIT, CPU_SPLIT

pytestmark = pytest.mark.unit

DTYPES = (torch.float32, torch.bfloat16)


def _drawn(rows: int, keys: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    q, k, v = (torch.randn(1, 3, count, 64, generator=generator).to(dtype) for count in (rows, keys, keys))
    v[:, :, 1::2] = v[:, :, ::2] * -0.999
    return q, k, v


def _expect_same(found: Partial, whole: Partial) -> None:
    rows = found.out.shape[2]
    assert same_bits(found.out + 0.0, whole.out[:, :, :rows] + 0.0)
    assert same_bits(found.weight, whole.weight[:, :, :rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("split", [CPU_SPLIT.keys, CPU_NEAR_SPLIT.keys])
def test_any_multiple_of_the_quantum_gives_rows_the_bits_of_many(
    dtype: torch.dtype, split: int, threads: int
) -> None:
    quantum = form_for(dtype, 64).quantum
    q, k, v = _drawn(256, split, dtype)
    whole = attend_each(q, k, v, None, 0.2)
    for rows in (quantum, 3 * quantum, 5 * quantum, 40, 104, 200):
        _expect_same(attend_each(q[:, :, :rows].contiguous(), k, v, None, 0.2), whole)
    assert threads == torch.get_num_threads()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_begun_split_gives_the_bits_of_a_whole_one(dtype: torch.dtype) -> None:
    form, split = form_for(dtype, 64), CPU_SPLIT.keys
    q, k, v = _drawn(64, split, dtype)
    for held in (1, 17, 64, 65, 130, 192, 193, 300, 390, 511):
        mask = torch.zeros(1, 1, 64, split)
        mask[..., held:] = -torch.inf
        keys = form.least_keys(held, split)
        found = attend_each(q, k[:, :, :keys], v[:, :, :keys], mask[..., :keys], 0.2)
        _expect_same(found, attend_each(q, k, v, mask, 0.2))


def test_a_split_is_cut_to_the_next_length_that_was_found() -> None:
    form = Form(4, (64, 192, CPU_SPLIT.keys))
    assert [form.least_keys(keys, CPU_SPLIT.keys) for keys in (1, 64, 65, 193)] == [64, 64, 192, 512]
    assert form.least_keys(1, CPU_NEAR_SPLIT.keys) == CPU_NEAR_SPLIT.keys


def test_nothing_is_tried_where_rounding_would_hide_it() -> None:
    assert form_for(torch.bfloat16, 32) == form_for(torch.float16, 64) == Form(8, (CPU_SPLIT.keys,))


def test_where_sizes_matter_rows_are_padded_further_and_splits_are_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def other_bits(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Partial:
        part = attend_each(rows, keys, values, mask, scale)
        spoilt = part.weight + (rows.shape[2] % 8) + (keys.shape[2] % CPU_NEAR_SPLIT.keys)
        return Partial(part.out, spoilt + (keys.shape[2] in (256, 384)))

    fused._found_form.cache_clear()
    monkeypatch.setattr(fused, "attend_each", other_bits)
    try:
        assert form_for(torch.float32, 16) == Form(8, (CPU_SPLIT.keys,))
    finally:
        fused._found_form.cache_clear()
