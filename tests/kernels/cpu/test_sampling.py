from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from microturn.kernels import BadShapeError, reference
from microturn.kernels.cpu.sampling import gumbel_noise, sampling_hash
from microturn.kernels.evidence import row_evidence
from microturn.kernels.ops.sampling import sample

pytestmark = pytest.mark.unit

SEEDS = torch.tensor([0, 1, -1, 2**31, 2**32, 2**62 + 12345, -(2**63)])
POSITIONS = torch.tensor([0, 1, 2**31 - 1, 2**32, 7, 2**40 + 3, 5])
ROWS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 65)


def hashes(seeds: Tensor, positions: Tensor, columns: int) -> Tensor:
    return torch.from_numpy(sampling_hash(seeds, positions, columns)).long()


def chi_square(counts: Tensor, expected: Tensor) -> float:
    """How many standard deviations the statistic lies above what chance gives, by its normal approximation."""
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def test_the_integers_are_those_of_the_definition() -> None:
    assert torch.equal(hashes(SEEDS, POSITIONS, 5000), reference.sampling_hash(SEEDS, POSITIONS, 5000))


def test_the_integers_never_change() -> None:
    # Computed by hand-written arithmetic on Python's integers, apart from both implementations.
    def mix(word: int) -> int:
        word ^= word >> 16
        word = word * 0x7FEB352D % 2**32
        word ^= word >> 15
        word = word * 0x846CA68B % 2**32
        return word ^ word >> 16

    def key(start: int, seed: int, position: int) -> int:
        for number in (seed % 2**64, position % 2**64):
            start = mix(mix(start ^ number % 2**32) ^ number // 2**32)
        return start

    for seed, position in ((0, 0), (-7, 3), (2**40 + 1, 2**33)):
        first, second = key(0x9E3779B9, seed, position), key(0x85EBCA6B, seed, position)
        expected = [mix((mix(column ^ first) + second) % 2**32) for column in range(20)]
        assert hashes(torch.tensor([seed]), torch.tensor([position]), 20).tolist() == [expected]
    assert hashes(torch.tensor([0]), torch.tensor([0]), 3).tolist() == [[2032380652, 1102122926, 2010568129]]


@pytest.mark.parametrize("vary", ["column", "position", "seed"])
def test_the_integers_are_uniform_in_every_direction(vary: str) -> None:
    many = torch.arange(200_000)
    zero = torch.zeros_like(many)
    if vary == "column":
        words = hashes(torch.tensor([11]), torch.tensor([3]), len(many))[0]
    else:
        words = hashes(*((zero, many) if vary == "position" else (many, zero)), 1)[:, 0]
    for shift in (0, 12, 24):
        counts = torch.bincount(words >> shift & 255, minlength=256).double()
        assert abs(chi_square(counts, torch.full((256,), len(many) / 256))) < 4


def test_neighbouring_columns_positions_and_seeds_are_not_correlated() -> None:
    words = hashes(torch.arange(40).repeat_interleave(50), torch.arange(50).repeat(40), 100).double()
    uniform = (words / 2**32 - 0.5).view(40, 50, 100) * math.sqrt(12)
    for axis in range(3):
        count = uniform.shape[axis]
        product = uniform.narrow(axis, 0, count - 1) * uniform.narrow(axis, 1, count - 1)
        assert abs(float(product.mean())) * math.sqrt(product.numel()) < 4


def test_two_rows_never_hold_the_same_noise_in_another_order() -> None:
    words = hashes(torch.zeros(300, dtype=torch.int64), torch.arange(300), 1000)
    assert (
        len(set(words.flatten().tolist())) > words.numel() - 40
    )  # 10.5 equal pairs are expected of 300,000 random words


def test_the_noise_agrees_with_float64_at_both_ends() -> None:
    words = torch.tensor([0, 1, 2, 1000, 2**31, 2**32 - 2**10, 2**32 - 1])
    found = gumbel_noise(words.to(torch.uint32).numpy())
    assert torch.isfinite(found).all()
    assert torch.allclose(found[:5].double(), reference.gumbel_noise(words[:5]), rtol=1e-6)
    assert torch.allclose(found.double(), reference.gumbel_noise(words), atol=0.35)
    assert found[0] > 22.8


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_ids_are_drawn_with_the_probabilities_of_the_softmax(temperature: float) -> None:
    logits = torch.randn(40, generator=torch.Generator().manual_seed(1))
    draws = 60_000
    ids = sample(
        logits.expand(draws, -1),
        torch.full((draws,), 5),
        torch.arange(draws),
        torch.full((draws,), temperature),
    )
    expected = torch.softmax(logits.double() / temperature, -1) * draws
    assert abs(chi_square(torch.bincount(ids, minlength=40).double(), expected)) < 4


def test_draws_agree_with_float64() -> None:
    logits = torch.randn(200, 500, generator=torch.Generator().manual_seed(2)) * 3
    seeds, positions = torch.arange(200) * 7919, torch.arange(200) % 13
    temperature = torch.linspace(0, 2, 200)
    found = sample(logits, seeds, positions, temperature)
    assert torch.equal(found, reference.sample(logits, seeds, positions, temperature))


def test_a_temperature_of_nought_takes_the_lowest_of_the_largest() -> None:
    logits = torch.zeros(3, 1000)
    logits[:, [70, 71, 500]] = 2.0
    ids = sample(logits, torch.arange(3), torch.arange(3), torch.tensor([0.0, -1.0, 0.0]))
    assert ids.tolist() == [70, 70, 70]


def test_minus_infinity_rules_an_id_out() -> None:
    logits = torch.full((500, 20), -math.inf)
    logits[:, [3, 9]] = 0.0
    ids = sample(logits, torch.zeros(500, dtype=torch.int64), torch.arange(500), torch.ones(500))
    assert set(ids.tolist()) == {3, 9}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_draws_the_same_id_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    def draw(logits: Tensor) -> Tensor:
        seeds = (logits[:, 0].double() * 1e6).long()
        warmth = (logits[:, 1].float().abs() - 0.5).clamp(-0.1, 2.0)  # cold for some neighbours
        # One id is a coarse witness, so many positions are drawn for each row.
        drawn = [sample(logits, seeds, torch.full_like(seeds, position), warmth) for position in range(4)]
        return torch.stack(drawn, -1)

    for seed in range(3):
        row = torch.randn(300, generator=torch.Generator().manual_seed(seed)).to(dtype)
        evidence = row_evidence(draw, row, batches=ROWS, neighbours=("random",))
        assert evidence.is_invariant, evidence.first


def test_the_bits_of_the_noise_do_not_depend_on_the_batch(threads: int) -> None:
    alone = gumbel_noise(sampling_hash(SEEDS[5:6], POSITIONS[5:6], 10_001))
    together = gumbel_noise(sampling_hash(SEEDS, POSITIONS, 10_001))
    assert torch.equal(alone[0], together[5])


def test_pytorchs_sampler_does_not_draw_the_same_id_in_every_batch() -> None:
    def draw(logits: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(4)
        return torch.multinomial(torch.softmax(logits, -1), 8, True, generator=generator)

    row = torch.randn(300, generator=torch.Generator().manual_seed(5))
    assert row_evidence(draw, row, batches=(1, 2, 3), neighbours=("random",)).mismatches > 0


def test_what_does_not_fit_is_refused_by_name() -> None:
    logits, whole, warmth = torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), torch.ones(2)
    with pytest.raises(BadShapeError, match=r"sample: expected seeds to be \(2,\) of torch.int64"):
        sample(logits, whole.int(), whole, warmth)
    with pytest.raises(BadShapeError, match="positions"):
        sample(logits, whole, whole[:1], warmth)
    with pytest.raises(BadShapeError, match="temperature"):
        sample(logits, whole, whole, warmth.double())
    with pytest.raises(BadShapeError, match="V at least 1"):
        sample(torch.zeros(2, 0), whole, whole, warmth)
