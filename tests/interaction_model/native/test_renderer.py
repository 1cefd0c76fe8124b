"""The renderer: no seams, no surprises, the pitch and the loudness that the frames ask for."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from microturn.interaction_model.native.renderer import DELAY_SAMPLES, TURN_SAMPLES, Renderer
from microturn.interaction_model.native.vocoder_frames import (
    FRAME_SIZE,
    HARMONIC_SIZE,
    SPECTRUM_BINS,
    TURN_FRAMES,
    Codes,
    encode,
    silence,
)
from microturn.protocols import Samples

pytestmark = pytest.mark.unit


def tone(frames: int, *, pitch_hz: float = 200.0, harmonic: float = 0.0, noise: float = -9.0) -> Codes:
    """Return frames with flat filters of the given log magnitudes."""
    flat = np.ones((SPECTRUM_BINS, frames), np.float32)
    return encode(flat * harmonic, flat * noise, np.full(frames, pitch_hz, np.float32))


def rendered(frames: Codes, seed: int = 0) -> Samples:
    """Return frames, a multiple of 16, as sound."""
    renderer = Renderer(seed)
    return np.concatenate([renderer.render(block) for block in frames.reshape(-1, TURN_FRAMES, FRAME_SIZE)])


def spoken(blocks: int) -> Codes:
    """Return frames that change all the time, with voiced and unvoiced stretches."""
    random = np.random.default_rng(7)
    frames = tone(blocks * TURN_FRAMES, noise=-1.0)
    frames[:, 1] = random.random(len(frames)) > 0.3
    frames[:, 0] += np.cumsum(random.normal(0, 0.02, len(frames)))
    frames[:, 2:] += random.normal(0, 0.2, frames[:, 2:].shape)
    return frames


def test_a_turn_of_frames_is_200_ms_of_sound() -> None:
    sound = Renderer().render(tone(TURN_FRAMES))
    assert sound.shape == (TURN_SAMPLES,) == (4_800,)
    assert sound.dtype == np.float32


def test_a_renderer_that_is_copied_between_turns_goes_on_to_the_bit() -> None:
    frames = spoken(4).reshape(4, TURN_FRAMES, FRAME_SIZE)
    whole = Renderer(3)
    expected = [whole.render(block) for block in frames]
    part = Renderer(3)
    for block, sound in zip(frames, expected, strict=True):
        part = copy.deepcopy(part)
        assert part.render(block).tobytes() == sound.tobytes()


def test_sound_so_far_does_not_depend_on_later_frames() -> None:
    frames, other = spoken(3), spoken(3)
    other[2 * TURN_FRAMES :] = silence(TURN_FRAMES)
    first, second = rendered(frames), rendered(other)
    assert first[: 2 * TURN_SAMPLES].tobytes() == second[: 2 * TURN_SAMPLES].tobytes()
    assert first[2 * TURN_SAMPLES :].tobytes() != second[2 * TURN_SAMPLES :].tobytes()


def test_a_steady_tone_has_no_seam_between_turns() -> None:
    sound = rendered(tone(4 * TURN_FRAMES, pitch_hz=200.0, noise=-20.0)).astype(np.float64)
    period = 120  # samples of 200 Hz
    steady = sound[TURN_SAMPLES - 600 : 3 * TURN_SAMPLES + 600]
    assert np.abs(steady[period:] - steady[:-period]).max() < 5e-4  # of the noise at the floor
    assert np.abs(steady).max() > 0.05


def test_the_pitch_is_the_frames_pitch() -> None:
    for pitch in (90.0, 200.0, 410.0):
        sound = rendered(tone(5 * TURN_FRAMES, pitch_hz=pitch))[TURN_SAMPLES:]
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size)))
        hz = np.fft.rfftfreq(sound.size, 1 / 24_000)
        below = hz < 1.5 * pitch
        assert abs(hz[below][spectrum[below].argmax()] - pitch) < 2


def test_noise_is_as_loud_as_asked_and_white() -> None:
    frames = tone(10 * TURN_FRAMES, pitch_hz=0.0, noise=1.0)
    sound = rendered(frames)[TURN_SAMPLES:].astype(np.float64)
    # Half-overlapping Hann windows of one source add up to that source: its magnitude is that of the filter.
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(np.e / 30, rel=0.03)
    power = np.abs(np.fft.rfft(sound)) ** 2
    bands = np.array([band.mean() for band in np.array_split(power, 8)])
    assert bands.max() / bands.min() < 1.3


def test_the_seed_decides_the_noise_and_turns_have_noise_of_their_own() -> None:
    frames = tone(4 * TURN_FRAMES, pitch_hz=0.0, noise=1.0)
    first, again, other = rendered(frames, 1), rendered(frames, 1), rendered(frames, 2)
    assert first.tobytes() == again.tobytes()
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.05
    second, third = first[TURN_SAMPLES : 2 * TURN_SAMPLES], first[2 * TURN_SAMPLES : 3 * TURN_SAMPLES]
    assert abs(np.corrcoef(second, third)[0, 1]) < 0.05


def test_silence_is_not_heard() -> None:
    assert np.abs(rendered(silence(3 * TURN_FRAMES))).max() < 1e-3


def test_sound_begins_after_the_delay_and_ends_soon_after_the_frames() -> None:
    frames = np.concatenate([tone(TURN_FRAMES), silence(2 * TURN_FRAMES)])
    sound = np.abs(rendered(frames))
    begin = DELAY_SAMPLES - 600
    assert sound[begin : DELAY_SAMPLES + 300].max() > 0.01
    assert sound[TURN_SAMPLES + DELAY_SAMPLES + 1_024 :].max() < 1e-3


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_broken_frame_is_silence_and_breaks_nothing_after_it(broken: float) -> None:
    frames = tone(3 * TURN_FRAMES)
    frames[5, 7] = broken
    expected = tone(3 * TURN_FRAMES)
    expected[5] = silence(1)
    assert rendered(frames).tobytes() == rendered(expected).tobytes()


@pytest.mark.parametrize("size", [50.0, 1e30, -1e30])
def test_wild_frames_give_sound_within_bounds(size: float) -> None:
    random = np.random.default_rng(1)
    frames = (random.standard_normal((3 * TURN_FRAMES, FRAME_SIZE)) * size).astype(np.float32)
    sound = rendered(frames)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() <= 1.0


def test_unvoiced_frames_have_no_pulses() -> None:
    frames = tone(3 * TURN_FRAMES, noise=-20.0)
    frames[:, 1] = 0.4
    assert np.abs(rendered(frames)).max() < 1e-3
    frames[:, 1] = 0.6
    assert np.abs(rendered(frames)).max() > 0.05


def test_frames_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(16, 48\), got \(15, 48\)"):
        Renderer().render(silence(15))


def test_the_two_filters_have_their_own_numbers() -> None:
    frames = tone(3 * TURN_FRAMES, pitch_hz=0.0, noise=0.0)
    frames[:, 2] += 3  # of the harmonic filter, which unvoiced frames do not use
    assert rendered(frames).tobytes() == rendered(tone(3 * TURN_FRAMES, pitch_hz=0.0, noise=0.0)).tobytes()
    frames[:, 2 + HARMONIC_SIZE] += 1
    louder = rendered(frames)
    assert np.std(louder) > 2 * np.std(rendered(tone(3 * TURN_FRAMES, pitch_hz=0.0, noise=0.0)))
