"""The ears: Inkling's levels and sums, the same bits however the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microturn.interaction_model._errors import BadSoundError
from microturn.interaction_model.native.config import EarsConfig
from microturn.interaction_model.native.ears import Ears, Hearing
from microturn.protocols import Samples
from tests.interaction_model.native.inkling import configuration, draw, modeling

features = pytest.importorskip("transformers.models.inkling.feature_extraction_inkling")
processing = pytest.importorskip("transformers.models.inkling.processing_inkling")

pytestmark = pytest.mark.unit

HOP = 800


def sound(hops: int, seed: int = 0) -> Samples:
    """Tones that come and go over noise of changing loudness, from silence to full scale."""
    draw_from = np.random.default_rng(seed)
    time = np.arange(hops * HOP) / 16_000
    loudness = 10 ** draw_from.uniform(-7, 0, hops).repeat(HOP)
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in draw_from.uniform(60, 7000, 4))
    mixed = loudness * (0.2 * tones + 0.1 * draw_from.normal(size=len(time)))
    clipped: Samples = np.clip(mixed, -1, 1).astype(np.float32)
    return clipped


def inkling_levels(audio: Samples) -> torch.Tensor:
    """What Inkling's feature extractor and processor make of a whole clip: `(F, 80)`."""
    extracted = features.InklingFeatureExtractor()(audio, sampling_rate=16_000, return_tensors="pt")
    # The processor asks for a tokenizer and images, of which the levels know nothing.
    processor = object.__new__(processing.InklingProcessor)
    processor.dmel_min_value, processor.dmel_max_value = -7.0, 2.0
    processor.bin_centers = torch.linspace(-7.0, 2.0, 16, dtype=torch.float64).float()
    levels: torch.Tensor = processor._extract_dmel_bins(extracted["input_features"])[0]
    return levels


def heard_in_parts(audio: Samples, hops: list[int]) -> torch.Tensor:
    hearing, parts, begin = Hearing.begin(), [], 0
    for count in hops:
        levels, hearing = hearing.hear(audio[begin * HOP : (begin + count) * HOP])
        parts.append(levels)
        begin += count
    return torch.cat(parts)


def test_levels_are_inklings() -> None:
    for seed in range(4):
        audio = sound(60, seed)
        ours, theirs = Hearing.begin().hear(audio)[0].int(), inkling_levels(audio)
        assert ours.shape == theirs.shape == (60, 80)
        # Their matrix product is of another order, so a number on the edge of two levels may fall to the other side.
        assert (ours - theirs).abs().max() <= 1
        assert (ours != theirs).float().mean() < 1e-3
        # The highest levels cannot be reached by sound in [-1, 1].
        assert len(theirs.unique()) > 10


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(0, 100))
def test_no_level_depends_on_how_the_sound_was_cut(hops: list[int], seed: int) -> None:
    audio = sound(sum(hops), seed)
    assert torch.equal(heard_in_parts(audio, hops), heard_in_parts(audio, [sum(hops)]))


def test_embeddings_are_inklings_and_those_that_are_trained() -> None:
    ears = Ears(EarsConfig(width=48))
    draw(ears, 3)
    theirs = modeling.InklingAudioModel(
        configuration.InklingAudioConfig(n_mel_bins=80, mel_vocab_size=16, text_hidden_size=48)
    )
    theirs.load_state_dict(ears.state_dict())
    levels = Hearing.begin().hear(sound(24))[0]
    with torch.no_grad():
        wanted = theirs(levels.long()).last_hidden_state
        torch.testing.assert_close(ears(levels), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ears.embed(levels), wanted, atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_row_that_was_heard() -> None:
    ears = Ears(EarsConfig(width=8))
    levels = torch.zeros(3, 80, dtype=torch.uint8)
    levels[:, 5] = torch.tensor([1, 2, 2])
    ears(levels).square().sum().backward()
    ears(levels[None]).sum().backward()
    gradient = ears.embed_audio_tokens.embed_audio_tokens.weight.grad
    assert gradient is not None
    heard = gradient.abs().sum(1).nonzero().flatten().tolist()
    assert heard == sorted({16 * band for band in range(80)} - {80} | {81, 82})


def test_embedding_a_frame_alone_has_the_same_bits() -> None:
    ears = Ears(EarsConfig(width=48))
    draw(ears, 3)
    levels = Hearing.begin().hear(sound(12))[0]
    whole = ears.embed(levels)
    assert all(torch.equal(ears.embed(levels[n : n + 1])[0], whole[n]) for n in range(12))


def test_hearing_changes_neither_the_sound_nor_what_was_remembered() -> None:
    audio = sound(4)
    audio.flags.writeable = False
    before = Hearing.begin()
    first, _ = before.hear(audio)
    second, _ = before.hear(audio)
    assert torch.equal(first, second)
    assert not before.carry.any()


@pytest.mark.parametrize(
    "audio, message",
    [
        (np.zeros(801, np.float32), r"\(801,\)"),
        (np.zeros(0, np.float32), r"n at least 1, got \(0,\)"),
        (np.zeros(800, np.float64), "float64"),
        (np.zeros((1, 800), np.float32), r"\(1, 800\)"),
        (np.full(800, np.nan, np.float32), "800 of 800 that are not"),
        (np.array([np.inf] + [0.0] * 799, np.float32), "1 of 800 that are not"),
    ],
)
def test_sound_that_cannot_be_heard_is_refused(audio: Samples, message: str) -> None:
    with pytest.raises(BadSoundError, match=message):
        Hearing.begin().hear(audio)
