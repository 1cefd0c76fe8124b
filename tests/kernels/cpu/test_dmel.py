from __future__ import annotations

import math
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from microturn.kernels import BadShapeError, mel_filters, reference
from microturn.kernels.cpu.dmel import magnitudes as magnitudes_of
from microturn.kernels.cpu.linear import linear
from microturn.kernels.evidence import row_evidence, same_bits
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
REAL_SPEECH = Path(os.environ.get("MICROTURN_SPEECH_DATA", ROOT / "shared" / "data"))
NEAR_AN_EDGE = 2e-5
"""In log10: float32 decides either way for an energy so near to the edge of a level (about 3 of 100,000 are)."""
EPS = 1e-6
DTYPES = (torch.float32, torch.bfloat16)


def noise(sessions: int, frames: int, seed: int) -> Tensor:
    """White noise whose loudness changes from frame to frame, over all levels above the floor of magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    loudness = 10 ** (torch.rand(sessions, frames, 1, generator=generator) * 10 - 8)
    return (torch.randn(sessions, frames, 800, generator=generator) * loudness).flatten(1)


def silence(sessions: int) -> Tensor:
    return torch.zeros(sessions, 800)


def recording(path: Path) -> Tensor:
    """`(1, n * 800)`: the whole frames of a file of 16 kHz."""
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    return torch.from_numpy(samples[: len(samples) // 800 * 800]).unsqueeze(0)


def is_near_an_edge(audio: Tensor, carry: Tensor) -> Tensor:
    distances = reference.dmel_log_mels(audio, carry).unsqueeze(-1) - mel_filters.level_edges().double()
    return distances.abs().amin(-1) < NEAR_AN_EDGE


def inkling_levels(audio: Tensor) -> Tensor:
    """`(1, n * 800)` -> `(1, n, 80)`: what the feature extractor and the processor of Inkling give."""
    extraction = pytest.importorskip("transformers.models.inkling.feature_extraction_inkling")
    processing = pytest.importorskip("transformers.models.inkling.processing_inkling")
    features = extraction.InklingFeatureExtractor()(
        audio[0].numpy(), sampling_rate=16_000, return_tensors="pt"
    )
    centres = torch.linspace(-7.0, 2.0, 16, dtype=torch.float64).float()
    settings = SimpleNamespace(bin_centers=centres, dmel_min_value=-7.0, dmel_max_value=2.0)
    levels: Tensor = processing.InklingProcessor._extract_dmel_bins(settings, features["input_features"])
    return levels


def assert_equal_but_near_edges(found: Tensor, expected: Tensor, audio: Tensor, carry: Tensor) -> None:
    differs = found.long() != expected.long()
    assert not (differs & ~is_near_an_edge(audio, carry)).any()
    assert (found.long() - expected.long()).abs().amax() <= 1
    assert differs.double().mean() < 1e-4


@pytest.mark.timeout(120)  # of which most is the import
def test_the_filters_are_those_of_transformers() -> None:
    audio_utils = pytest.importorskip("transformers.audio_utils")
    theirs = audio_utils.mel_filter_bank(801, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    assert torch.equal(mel_filters.mel_filters(), torch.from_numpy(theirs.T).float())


def test_the_edges_are_where_the_nearest_centre_changes() -> None:
    edges, centres = mel_filters.level_edges(), mel_filters.level_centres()
    below = torch.nextafter(edges, torch.tensor(-math.inf))
    numbers = torch.cat([edges, below, torch.linspace(-7, 2, 50_001), centres])
    nearest = (numbers.unsqueeze(-1) - centres).abs().argmin(-1)
    assert torch.equal(torch.bucketize(numbers, edges, right=True), nearest)
    assert nearest[:15].tolist() == list(range(1, 16))
    assert nearest[15:30].tolist() == list(range(15))


@pytest.mark.parametrize("seed", [1, 2])
def test_levels_of_noise_agree_with_float64(seed: int) -> None:
    audio, carry = noise(5, 40, seed), noise(5, 1, seed + 10)
    levels, kept = dmel_levels(audio, carry)
    expected, expected_kept = reference.dmel_levels(audio, carry)
    assert (levels.dtype, levels.shape) == (torch.uint8, (5, 40, 80))
    assert set(levels.flatten().tolist()) == set(range(2, 16))
    assert_equal_but_near_edges(levels, expected, audio, carry)
    assert torch.equal(kept.double(), expected_kept)


@pytest.mark.timeout(120)  # of which most is the import
def test_levels_of_noise_and_speech_are_those_of_inkling() -> None:
    for audio in (noise(1, 200, 3), recording(ROOT / "examples" / "conversation" / "question.flac")):
        found = dmel_levels(audio, silence(1))[0]
        assert_equal_but_near_edges(found, inkling_levels(audio), audio, silence(1))


@pytest.mark.timeout(120)  # of which most is the import
def test_levels_of_recorded_people_are_those_of_inkling() -> None:
    folder = REAL_SPEECH / "librispeech" / "dev"
    if not folder.is_dir():
        pytest.skip(f"no recordings of people in {folder}; name a folder with MICROTURN_SPEECH_DATA")
    for path in sorted(folder.glob("*.flac"))[::17]:
        audio = recording(path)
        found = dmel_levels(audio, silence(1))[0]
        assert_equal_but_near_edges(found, inkling_levels(audio), audio, silence(1))


@pytest.mark.parametrize("chunks", [[1] * 20, [4] * 5, [3, 1, 7, 2, 5, 2], [19, 1], [0, 20]])
def test_levels_are_the_same_in_one_piece_and_in_chunks(chunks: list[int], threads: int) -> None:
    audio = noise(3, 20, 4)
    whole, last = dmel_levels(audio, silence(3))
    carry, pieces, begin = silence(3), [], 0
    for frames in chunks:
        end = begin + frames * 800
        levels, carry = dmel_levels(audio[:, begin:end], carry)
        pieces.append(levels)
        begin = end
    assert torch.equal(torch.cat(pieces, 1), whole)
    assert same_bits(carry, last)


def test_a_frame_hears_the_samples_before_it() -> None:
    audio = torch.randn(1, 3200, generator=torch.Generator().manual_seed(5)) * 0.1
    with_past = dmel_levels(audio[:, 1600:], audio[:, 800:1600])[0]
    without = dmel_levels(audio[:, 1600:], silence(1))[0]
    assert not torch.equal(with_past[:, 0], without[:, 0])
    assert torch.equal(with_past[:, 1], without[:, 1])


def test_the_magnitudes_of_a_session_have_the_same_bits_in_every_batch(threads: int) -> None:
    # Levels are too coarse to show a difference in the last bits.
    def energies(frames: Tensor) -> tuple[Tensor, Tensor]:
        magnitudes = magnitudes_of(frames)
        return magnitudes, linear(magnitudes, mel_filters.mel_filters()).log10_()

    row = noise(1, 2, 6)[0]
    evidence = row_evidence(
        energies, row, batches=(1, 2, 3, 4, 5, 8, 9, 17, 33), neighbours=("random", "large")
    )
    assert evidence.is_invariant, evidence.first


def test_a_session_has_the_same_levels_in_every_batch(threads: int) -> None:
    row = noise(1, 5, 7)[0]

    def levels(sound: Tensor) -> tuple[Tensor, ...]:
        return dmel_levels(sound[:, 800:], sound[:, :800].contiguous())

    evidence = row_evidence(levels, row, batches=(1, 2, 3, 5, 8), neighbours=("zeros", "random", "large"))
    assert evidence.is_invariant, evidence.first


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_sample_counts_as_silence(broken: float) -> None:
    audio = noise(2, 5, 8)
    quiet = audio.clone()
    quiet[1, 2300] = 0.0
    audio[1, 2300] = broken
    levels, carry = dmel_levels(audio, silence(2))
    expected, expected_carry = dmel_levels(quiet, silence(2))
    assert torch.equal(levels, expected)
    assert same_bits(carry, expected_carry)


def test_a_broken_carry_and_absurd_samples_give_levels_in_range() -> None:
    levels, carry = dmel_levels(torch.full((1, 1600), 3e38), torch.full((1, 800), math.nan))
    assert levels.amax() <= 15
    assert torch.isfinite(carry).all()


def test_silence_is_all_of_the_lowest_level_that_the_floor_allows() -> None:
    levels, _ = dmel_levels(torch.zeros(1, 1600), silence(1))
    assert torch.equal(levels.long(), reference.dmel_levels(torch.zeros(1, 1600), silence(1))[0])


def test_the_arguments_are_left_as_they_were() -> None:
    audio, carry = noise(1, 2, 9), silence(1)
    audio[0, 3] = math.nan
    before = audio.clone()
    dmel_levels(audio, carry)
    assert same_bits(audio, before)
    assert same_bits(carry, silence(1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_embeddings_agree_with_float64(seed: int, dtype: torch.dtype) -> None:
    levels, table, weight = embedding_case(9, 50, seed, dtype)
    found = dmel_embed(levels, table, weight, EPS)
    expected = reference.dmel_embed(levels, table, weight, EPS)
    assert found.dtype == dtype
    assert (found.double() - expected).norm() < (1e-6 if dtype == torch.float32 else 4e-3) * expected.norm()


def test_rows_of_the_table_are_added_in_the_order_of_bins() -> None:
    levels, table, weight = embedding_case(6, 70, 3, torch.float32)
    rows = table.view(80, 16, 70)[torch.arange(80), levels.long()]
    total = torch.zeros(6, 70)
    for addend in rows.unbind(1):
        total += addend
    spread = total.square().sum(-1, keepdim=True) / 70 + EPS
    assert same_bits(dmel_embed(levels, table, weight, EPS), weight * (total * torch.rsqrt(spread)))
    assert not torch.equal(total, rows.sum(1)), "another order of addition gives the same bits: no evidence"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_frame_has_the_same_embedding_in_every_batch(dtype: torch.dtype, threads: int) -> None:
    levels, table, weight = embedding_case(1, 100, 4, dtype)

    def embed(numbers: Tensor) -> Tensor:
        return dmel_embed((numbers.abs() * 7).remainder(16).to(torch.uint8), table, weight, EPS)

    row = levels[0].float() / 7
    evidence = row_evidence(embed, row, batches=(1, 2, 3, 4, 5, 8, 17, 33, 65), neighbours=("random",))
    assert evidence.is_invariant, evidence.first


def embedding_case(frames: int, width: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 16, (frames, 80), generator=generator).to(torch.uint8)
    table = torch.randn(80 * 16, width, generator=generator).to(dtype)
    return levels, table, torch.randn(width, generator=generator).to(dtype)


def test_a_micro_turn_takes_less_than_a_millisecond() -> None:
    audio, carry = noise(1, 4, 5), silence(1)
    _, table, weight = embedding_case(1, 256, 5, torch.float32)
    durations_s = []
    with torch.inference_mode():
        for _ in range(60):
            begun = time.perf_counter()
            levels, carry = dmel_levels(audio, carry)
            dmel_embed(levels[0], table, weight, EPS)
            durations_s.append(time.perf_counter() - begun)
    # The fastest of many is what the work takes; the others waited for the processor.
    assert min(durations_s) < 1e-3


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(BadShapeError, match=r"audio to be \(S, n \* 800\) of float32"):
        dmel_levels(torch.zeros(1, 801), silence(1))
    with pytest.raises(BadShapeError, match="float64"):
        dmel_levels(torch.zeros(1, 800).double(), silence(1))
    with pytest.raises(BadShapeError, match=r"carry to be \(2, 800\)"):
        dmel_levels(torch.zeros(2, 800), silence(1))
    levels, table, weight = embedding_case(2, 8, 6, torch.float32)
    with pytest.raises(BadShapeError, match="uint8"):
        dmel_embed(levels.long(), table, weight, EPS)
    with pytest.raises(BadShapeError, match=r"table to be \(1280, C\)"):
        dmel_embed(levels, table[1:], weight, EPS)
    with pytest.raises(BadShapeError, match="norm_weight"):
        dmel_embed(levels, table, weight[1:], EPS)
