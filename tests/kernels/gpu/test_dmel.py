"""dMel as Triton kernels, interpreted. One call serves several tests, as each costs the interpreter seconds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from microturn.kernels import mel_filters, reference, use_backend
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels

pytestmark = pytest.mark.unit

SESSIONS, FRAMES = 2, 2


@pytest.fixture(scope="module")
def sound() -> tuple[Tensor, Tensor]:
    """A loud session and a quiet one with a broken sample; both the sound and what came before it."""
    generator = torch.Generator().manual_seed(13)
    audio = torch.randn(SESSIONS, FRAMES * mel_filters.HOP_SAMPLES, generator=generator)
    carry = torch.randn(SESSIONS, mel_filters.HOP_SAMPLES, generator=generator)
    loudness = torch.tensor([[0.3], [0.002]])
    audio, carry = audio * loudness, carry * loudness
    audio[1, 900] = torch.nan
    audio[1, 901] = -torch.inf
    return audio, carry


@pytest.fixture(scope="module")
def found(sound: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Levels and the next carry."""
    with use_backend("interpreter"):
        return dmel_levels(*sound)


def test_levels_are_those_of_the_oracle_wherever_the_energy_is_not_halfway(
    sound: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]
) -> None:
    expected, _ = reference.dmel_levels(*sound)
    log_mels = reference.dmel_log_mels(*sound).unsqueeze(-1)
    is_clear = ((log_mels - mel_filters.level_edges().double()).abs() > 1e-4).all(-1)
    assert is_clear.float().mean() > 0.99
    assert torch.equal(found[0].long()[is_clear], expected[is_clear])
    assert len(set(found[0].flatten().tolist())) > 3


def test_the_last_samples_are_kept_and_broken_ones_count_as_silence(
    sound: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]
) -> None:
    _, carry = reference.dmel_levels(*sound)
    assert torch.equal(found[1].double(), carry)
    assert found[1][1, 100:102].tolist() == [0.0, 0.0]


def test_without_a_frame_the_carry_stays(sound: tuple[Tensor, Tensor]) -> None:
    with use_backend("interpreter"):
        levels, carry = dmel_levels(torch.empty(SESSIONS, 0), sound[1])
    assert levels.shape == (SESSIONS, 0, mel_filters.MEL_BINS)
    assert torch.equal(carry, sound[1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-7)])
def test_embeddings_agree_with_the_oracle(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(17)
    levels = torch.randint(0, mel_filters.LEVELS, (2, mel_filters.MEL_BINS), generator=generator).to(
        torch.uint8
    )
    table = torch.randn(mel_filters.MEL_BINS * mel_filters.LEVELS, 40, generator=generator).to(dtype)
    weight = torch.randn(40, generator=generator).to(dtype)
    with use_backend("interpreter"):
        result = dmel_embed(levels, table, weight, 1e-6)
    assert result.dtype == dtype
    expected = reference.dmel_embed(levels, table, weight, 1e-6)
    torch.testing.assert_close(result.double(), expected, atol=tolerance, rtol=tolerance)
