"""Where words lie in recordings: with tones in place of voices, and an ear that hears nothing but pitch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from microturn.interaction_model.native.vocabulary import slot
from microturn.interaction_model.training.forced_alignment import (
    FRAME_SAMPLES,
    READER,
    Floats,
    ForcedAligner,
    pauses,
)
from microturn.interaction_model.training.speakers import Engine, Speaker
from microturn.interaction_model.training.utterances import Utterance, joined, trimmed
from microturn.protocols import Samples
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit

WORDS = ("red", "ball", "when", "seven", "the", "minute", "jump")
FRAME_MS = FRAME_SAMPLES // 16


def pitch_of(audio: Samples) -> Floats:
    """Frames as spectra; silence is noise of its own."""
    padded = np.pad(audio, (0, FRAME_SAMPLES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * FRAME_SAMPLES)[::FRAME_SAMPLES]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(2 * FRAME_SAMPLES), axis=1))[:, :200]
    return np.asarray(np.log(spectra + 0.1), np.float32)


@pytest.fixture
def aligner(tones: ToneSynthesizer) -> ForcedAligner:
    return ForcedAligner(pitch_of, tones)


def recorded(tones: ToneSynthesizer, words: Sequence[str], pauses_ms: Sequence[int]) -> Utterance:
    """Words of another speaker, one by one, with noise that is hardly heard, and silence at both ends."""
    speaker = Speaker(Engine.HIBARI, 1200)
    parts = [trimmed(tones.say([word], speaker, place), 0) for place, word in enumerate(words)]
    whole = joined(parts, [16 * pause for pause in pauses_ms])
    noise = np.random.default_rng(1).normal(size=whole.audio.size + 9600).astype(np.float32)
    moved = trimmed(Utterance(np.pad(whole.audio, 4800), whole.words, whole.speaker), whole.audio.size)
    return Utterance(np.pad(moved.audio[4800:-4800], 4800) + 1e-3 * noise, whole.words, whole.speaker)


def test_words_are_found_where_they_lie_whatever_the_pauses_between_them(
    aligner: ForcedAligner, tones: ToneSynthesizer
) -> None:
    assert len({slot(word) for word in WORDS}) == len(WORDS)
    recording = recorded(tones, WORDS, [0, 300, 30, 900, 0, 120])
    found = aligner.align(recording.audio, WORDS)
    assert [each.word for each in found] == list(WORDS)
    for each, word in zip(found, recording.words, strict=True):
        assert each.begin_ms == pytest.approx(word.start_sample / 16 + 300, abs=3 * FRAME_MS)
        assert each.end_ms == pytest.approx(word.end_sample / 16 + 300, abs=3 * FRAME_MS)
        assert each.misfit < 0.4


def test_a_word_that_was_not_said_fits_worst(aligner: ForcedAligner, tones: ToneSynthesizer) -> None:
    recording = recorded(tones, WORDS, [50] * 6)
    claimed = (*WORDS[:3], "nineteen", *WORDS[4:])
    misfits = [each.misfit for each in aligner.align(recording.audio, claimed)]
    assert int(np.argmax(misfits)) == 3 and misfits[3] > 0.4 > sorted(misfits)[-2]


def test_nothing_is_found_where_nothing_is_or_could_be(
    aligner: ForcedAligner, tones: ToneSynthesizer
) -> None:
    recording = recorded(tones, WORDS, [50] * 6)
    assert aligner.align(recording.audio, ()) == []
    assert aligner.align(recording.audio[:3200], WORDS) == []


def test_sound_that_is_equally_loud_throughout_has_no_pauses(tones: ToneSynthesizer) -> None:
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    assert not pauses(noise, 40).any()
    assert READER.engine is Engine.HIBARI
    quiet = np.concatenate([noise[:8000], 1e-3 * noise[8000:]])
    assert not pauses(quiet, 40)[:19].any() and pauses(quiet, 40)[22:].all()
