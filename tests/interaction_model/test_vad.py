"""The voice activity detector on real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.vad import CONTEXT_SAMPLES, WINDOW_SAMPLES, SileroVad, VadWindow
from microturn.interaction_model.cascade.voice import Voice
from microturn.protocols import INPUT_SAMPLES, Samples

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def sound(voice: Voice) -> Samples:
    """A second of silence, a sentence, a second of silence."""
    speech = np.asarray(resample_poly(voice.render("Could you tell me a story?").audio, 2, 3), np.float32)
    return np.pad(speech, 16_000)


def test_the_probabilities_do_not_depend_on_how_the_sound_is_cut(vad: SileroVad, sound: Samples) -> None:
    whole, expected = vad.step(vad.start(), sound)
    random = np.random.default_rng(7)
    for sizes in ([INPUT_SAMPLES], [1, 511, 512, 513], list(random.integers(1, 4_000, 50))):
        state, windows, at = vad.start(), list[VadWindow](), 0
        for size in np.resize(sizes, sound.size):
            if at >= sound.size:
                break
            state, found = vad.step(state, sound[at : at + int(size)])
            windows += found
            at += int(size)
        assert tuple(windows) == expected
        assert np.array_equal(state.recurrent, whole.recurrent)
        assert np.array_equal(state.pending, whole.pending)


def test_a_micro_turn_is_six_windows_and_a_quarter(vad: SileroVad, sound: Samples) -> None:
    state, counts = vad.start(), list[int]()
    for at in range(0, 8 * INPUT_SAMPLES, INPUT_SAMPLES):
        state, windows = vad.step(state, sound[at : at + INPUT_SAMPLES])
        counts.append(len(windows))
        assert state.end_sample == at + INPUT_SAMPLES
        assert state.pending.size < CONTEXT_SAMPLES + WINDOW_SAMPLES
    assert counts == [6, 6, 6, 7, 6, 6, 6, 7]


def test_positions_go_on_from_where_the_stream_starts(vad: SileroVad) -> None:
    state, windows = vad.step(vad.start(position=1_000), np.zeros(1_100, np.float32))
    assert [window.start_sample for window in windows] == [1_000, 1_512]
    assert state.end_sample == 2_100


def test_speech_is_told_from_silence_and_noise(vad: SileroVad, sound: Samples) -> None:
    _, windows = vad.step(vad.start(), sound)
    speech = [w.probability for w in windows if 18_000 < w.start_sample < sound.size - 20_000]
    silence = [w.probability for w in windows if w.end_sample < 15_000]
    noise = 0.05 * np.random.default_rng(1).standard_normal(32_000)
    _, noisy = vad.step(vad.start(), noise.astype(np.float32))
    assert np.mean(speech) > 0.85
    assert max(silence) < 0.2
    assert np.mean([w.probability for w in noisy]) < 0.2


def test_a_state_can_be_used_again(vad: SileroVad, sound: Samples) -> None:
    state, _ = vad.step(vad.start(), sound[:20_000])
    assert vad.step(state, sound[20_000:])[1] == vad.step(state, sound[20_000:])[1]


def test_people_are_heard(vad: SileroVad, real_speech: Path) -> None:
    audio, _ = soundfile.read(next(iter(sorted(real_speech.glob("*.flac")))), dtype="float32")
    _, windows = vad.step(vad.start(), audio)
    assert np.mean([w.probability > 0.5 for w in windows]) > 0.6
