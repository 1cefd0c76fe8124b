"""Streaming conversion gives what converting the whole signal gives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from microturn.protocols import Samples
from microturn.runtime.resampler import Resampler

pytestmark = pytest.mark.unit

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000, 44099]


def noise(samples: int) -> Samples:
    return np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)


def streamed(audio: Samples, from_hz: int, to_hz: int, blocks: list[int]) -> Samples:
    resampler = Resampler(from_hz, to_hz)
    parts, at, turn = [], 0, 0
    while at < len(audio):
        size = blocks[turn % len(blocks)]
        parts.append(resampler.push(audio[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate([*parts, resampler.finish()])


def whole(audio: Samples, from_hz: int, to_hz: int) -> Samples:
    ratio = Fraction(to_hz, from_hz)
    return np.asarray(signal.resample_poly(audio, ratio.numerator, ratio.denominator), np.float32)


@pytest.mark.parametrize("from_hz", RATES)
def test_blocks_of_a_fifth_of_a_second_equal_the_whole_file(from_hz: int) -> None:
    audio = noise(from_hz + 137)
    got = streamed(audio, from_hz, 16000, [from_hz // 5])
    np.testing.assert_allclose(got, whole(audio, from_hz, 16000), atol=3e-6)


@settings(deadline=None, max_examples=40)
@given(
    length=st.integers(0, 3000),
    blocks=st.lists(st.integers(1, 700), min_size=1, max_size=6),
    rates=st.sampled_from([(16000, 24000), (24000, 16000), (44100, 16000), (8000, 16000), (48000, 16000)]),
)
def test_no_split_into_blocks_changes_the_result(
    length: int, blocks: list[int], rates: tuple[int, int]
) -> None:
    audio = noise(length)
    got = streamed(audio, *rates, blocks)
    assert len(got) == -(-length * rates[1] // rates[0])
    if length:
        np.testing.assert_allclose(got, whole(audio, *rates), atol=3e-6)


def test_equal_rates_pass_sound_through_bit_exactly() -> None:
    audio = noise(1000)
    assert np.array_equal(streamed(audio, 16000, 16000, [300]), audio)


def test_a_long_stream_is_not_kept() -> None:
    resampler = Resampler(16000, 24000)
    for _ in range(50):
        resampler.push(noise(3200))
    assert len(resampler._held) < 100


def test_a_tone_keeps_its_pitch_and_its_level() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    got = streamed(tone, 44100, 16000, [4410])[2000:14000]
    spectrum = np.abs(np.fft.rfft(got * np.hanning(len(got))))
    assert abs(np.argmax(spectrum) * 16000 / len(got) - 440) < 2
    assert abs(float(np.abs(got).max()) - 1) < 0.01


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="from_hz"):
        Resampler(0, 16000)
