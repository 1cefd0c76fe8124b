"""Sampling's Triton kernels, interpreted: the noise's integers are those of the specification."""

# Inside a kernel every value is a handle of Triton's compiler, and its decorator carries no types.
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from microturn.kernels import reference, use_backend
from microturn.kernels.gpu.sampling import BLOCK, noise_hash
from microturn.kernels.ops.sampling import sample

pytestmark = pytest.mark.unit

SEEDS = torch.tensor([0, 1, -1, 2**40 + 3, -(2**63)])
POSITIONS = torch.tensor([0, 2**33, 5, 0, 2**62])
LOGITS = 2.0 * torch.randn(5, 2 * BLOCK + 7, generator=torch.Generator().manual_seed(11))


@triton.jit
def _hash_kernel(seeds, positions, out, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    columns = tl.arange(0, COLUMNS)
    hashed = noise_hash(tl.load(seeds + row), tl.load(positions + row), columns)
    tl.store(out + row * COLUMNS + columns, hashed.to(tl.int64))


def test_the_integers_of_the_noise_are_those_of_the_specification() -> None:
    found = torch.empty(5, 64, dtype=torch.int64)
    _hash_kernel[(5,)](SEEDS, POSITIONS, found, COLUMNS=64)
    assert torch.equal(found, reference.sampling_hash(SEEDS, POSITIONS, 64))


def test_ids_are_those_of_the_oracle_at_every_temperature() -> None:
    temperature = torch.tensor([1.0, 0.0, 0.3, 2.0, -1.0])
    with use_backend("interpreter"):
        found = sample(LOGITS, SEEDS, POSITIONS, temperature)
    assert torch.equal(found, reference.sample(LOGITS, SEEDS, POSITIONS, temperature))


def test_a_row_draws_the_same_id_alone_and_in_a_batch() -> None:
    temperature = torch.ones(5)
    with use_backend("interpreter"):
        together = sample(LOGITS, SEEDS, POSITIONS, temperature)
        alone = [
            sample(LOGITS[n : n + 1], SEEDS[n : n + 1], POSITIONS[n : n + 1], temperature[:1]) for n in (0, 3)
        ]
    assert together[[0, 3]].tolist() == [int(ids) for ids in alone]


def test_the_lowest_of_equal_ids_wins_also_across_pieces() -> None:
    logits = torch.zeros(2, 2 * BLOCK + 7)
    logits[0, [BLOCK - 1, BLOCK, 2 * BLOCK]] = 4.0
    logits[1] = -torch.inf
    zero = torch.zeros(2, dtype=torch.int64)
    with use_backend("interpreter"):
        assert sample(logits, zero, zero, torch.zeros(2)).tolist() == [BLOCK - 1, 0]


def test_an_id_that_is_ruled_out_is_never_drawn() -> None:
    logits = torch.full((8, 12), -torch.inf)
    logits[:, 5] = 0.0
    numbers = torch.arange(8)
    with use_backend("interpreter"):
        assert sample(logits, numbers, numbers, torch.ones(8)).tolist() == [5] * 8


def test_a_row_of_nans_gives_an_id_of_the_vocabulary() -> None:
    zero = torch.zeros(1, dtype=torch.int64)
    with use_backend("interpreter"):
        found = sample(torch.full((1, 12), torch.nan), zero, zero, torch.zeros(1))
    assert 0 <= int(found) < 12
