"""How speech is heard under a condition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from microturn.interaction_model.training.conditions import (
    GAIN_DB,
    Condition,
    NoiseKind,
    draw_condition,
)
from microturn.interaction_model.training.rooms import Microphone, Room
from microturn.interaction_model.training.utterances import speech_level
from microturn.protocols import Samples

pytestmark = pytest.mark.unit

PLAIN = Condition(Room(0, 0, 0), Microphone(20.0, 8000.0), (), 0.0, False, seed=1)


@pytest.fixture
def speech() -> Samples:
    """A second of sound between two of silence."""
    audio = np.zeros(48_000, np.float32)
    audio[16_000:32_000] = 0.1 * np.sin(np.arange(16_000) * 0.5)
    return audio


def test_a_plain_condition_changes_next_to_nothing(speech: Samples) -> None:
    # The edges of the tone itself lie outside every microphone's band, so its inside is compared.
    inside = slice(17_000, 31_000)
    assert np.allclose(PLAIN.heard(speech)[inside], speech[inside], atol=1e-3)


@pytest.mark.parametrize("gain_db", [-20.0, 6.0])
def test_gain_is_in_decibels(speech: Samples, gain_db: float) -> None:
    ratio = speech_level(replace(PLAIN, gain_db=gain_db).heard(speech)) / speech_level(PLAIN.heard(speech))
    assert 20 * np.log10(ratio) == pytest.approx(gain_db, abs=0.01)


@pytest.mark.parametrize("kind", [NoiseKind.COLOURED, NoiseKind.BABBLE])
def test_noise_is_as_far_below_the_speech_as_asked_for(speech: Samples, kind: NoiseKind) -> None:
    others = [np.random.default_rng(1).standard_normal(5000).astype(np.float32)]
    noisy = replace(PLAIN, noises=((kind, 20.0),)).heard(speech, others)
    noise = noisy - PLAIN.heard(speech)
    level = np.sqrt(np.mean(np.square(noise, dtype=np.float64)))
    # Of brown noise some lies below what a microphone hears.
    assert -20 * np.log10(level / speech_level(speech)) == pytest.approx(20, abs=1.5)


def test_babble_needs_others(speech: Samples) -> None:
    noisy = replace(PLAIN, noises=((NoiseKind.BABBLE, 0.0),))
    assert np.allclose(noisy.heard(speech), PLAIN.heard(speech), atol=1e-6)


def test_what_is_beside_the_speech_is_heard_without_the_room(speech: Samples) -> None:
    beside = speech[::-1].copy()
    roomy = replace(PLAIN, room=Room(0.4, 0.0, 3))
    added = roomy.heard(speech, beside=beside) - roomy.heard(speech)
    assert np.allclose(added[17_000:31_000], beside[17_000:31_000], atol=2e-3)


def test_equal_conditions_give_equal_bytes(speech: Samples) -> None:
    drawn = [draw_condition(np.random.default_rng(5)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert np.array_equal(drawn[0].heard(speech), drawn[1].heard(speech))


def test_drawn_conditions_keep_the_length_the_dtype_and_the_range(speech: Samples) -> None:
    generator = np.random.default_rng(0)
    for _ in range(25):
        heard = draw_condition(generator).heard(speech, [speech])
        assert heard.shape == speech.shape and heard.dtype == np.float32
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1


def test_conditions_are_of_every_kind() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_condition(generator) for _ in range(600)]
    assert {kind for condition in drawn for kind, _ in condition.noises} == set(NoiseKind)
    assert 0.05 < np.mean([condition.room.reverberation_s == 0 for condition in drawn]) < 0.16
    assert 0.08 < np.mean([condition.is_telephone for condition in drawn]) < 0.2
    gains = [condition.gain_db for condition in drawn]
    assert GAIN_DB[0] <= min(gains) < -20 and 3 < max(gains) <= GAIN_DB[1]
