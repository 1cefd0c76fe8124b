"""Styles on frames that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.cascade.voice_style import VoiceFrames, VoiceStyle, styled

pytestmark = pytest.mark.unit


@pytest.fixture
def frames() -> VoiceFrames:
    """A single peak at bin 200 in every branch, and a melody around 200 Hz with one unvoiced frame."""
    peak = np.zeros((601, 4), np.float32)
    peak[200] = 1
    return VoiceFrames(peak, peak, peak, peak, peak, np.array([100, 200, 400, 3], np.float32))


def test_the_default_style_changes_nothing(frames: VoiceFrames) -> None:
    same = styled(frames, VoiceStyle())
    assert np.array_equal(same.f0_hz, frames.f0_hz)
    assert np.array_equal(same.harmonic, frames.harmonic)


def test_pitch_moves_the_melody_and_not_the_spectrum(frames: VoiceFrames) -> None:
    deep = styled(frames, VoiceStyle(pitch=0.5))
    assert deep.f0_hz[:3] == pytest.approx([50, 100, 200])
    assert np.array_equal(deep.harmonic, frames.harmonic)


def test_formants_move_the_spectrum_and_not_the_melody(frames: VoiceFrames) -> None:
    large = styled(frames, VoiceStyle(formant=0.8))
    assert int(np.argmax(large.harmonic[:, 0])) == 160
    assert int(np.argmax(large.free_phase[:, 0])) == 200
    assert np.array_equal(large.f0_hz, frames.f0_hz)


def test_a_wider_range_leaves_the_middle_and_unvoiced_frames(frames: VoiceFrames) -> None:
    lively = styled(frames, VoiceStyle(pitch_range=2.0))
    assert lively.f0_hz == pytest.approx([50, 200, 800, 3])


def test_breath_is_noise_alone(frames: VoiceFrames) -> None:
    breathy = styled(frames, VoiceStyle(breath=0.5))
    assert np.allclose(breathy.noise - frames.noise, 0.5)
    assert np.array_equal(breathy.harmonic, frames.harmonic)
