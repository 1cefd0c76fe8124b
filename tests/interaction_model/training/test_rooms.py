"""Rooms and microphones by their physics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microturn.interaction_model.training.rooms import AcousticPath, Microphone, Room
from microturn.protocols import INPUT_RATE_HZ, Samples

pytestmark = pytest.mark.unit

OPEN = Microphone(20.0, 8000.0)


def tone(hertz: float, samples: int = 16_000) -> Samples:
    return np.sin(2 * np.pi * hertz * np.arange(samples) / INPUT_RATE_HZ).astype(np.float32)


def level_db(audio: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(audio[2000:-2000], dtype=np.float64))))


def test_the_direct_sound_comes_first_and_is_as_loud_as_asked_for() -> None:
    response = Room(0.5, 5.0, seed=1).response().astype(np.float64)
    assert response[0] == 1
    assert 10 * np.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(5.0, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.2, 0.4])
def test_a_room_decays_by_sixty_decibels_in_its_reverberation_time(seconds: float) -> None:
    early, late = 0.25 * seconds, 0.75 * seconds
    windows = []
    for begin in (early, late):
        at = slice(int(begin * INPUT_RATE_HZ), int((begin + 0.1 * seconds) * INPUT_RATE_HZ))
        energies = [np.mean(Room(seconds, 0.0, seed).response()[at] ** 2) for seed in range(20)]
        windows.append(10 * np.log10(np.mean(energies)))
    assert windows[0] - windows[1] == pytest.approx(30, abs=2)


def test_no_room_changes_nothing() -> None:
    assert np.array_equal(Room(0.0, 0.0, 1).response(), [1])


def test_a_room_follows_from_its_seed() -> None:
    assert np.array_equal(Room(0.3, 5.0, 7).response(), Room(0.3, 5.0, 7).response())
    assert not np.array_equal(Room(0.3, 5.0, 7).response(), Room(0.3, 5.0, 8).response())


@pytest.mark.parametrize(("hertz", "is_heard"), [(100, False), (700, True), (2500, True), (5000, False)])
def test_a_telephone_hears_the_middle_of_speech(hertz: float, is_heard: bool) -> None:
    path = AcousticPath.through(Room(0, 0, 0), Microphone(300.0, 3400.0))
    change = level_db(path.heard(tone(hertz))) - level_db(tone(hertz))
    assert abs(change) < 0.5 if is_heard else change < -30


def test_an_open_microphone_hears_all_of_speech() -> None:
    path = AcousticPath.through(Room(0, 0, 0), OPEN)
    for hertz in (80, 1000, 7800):
        assert level_db(path.heard(tone(hertz))) == pytest.approx(level_db(tone(hertz)), abs=0.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 70_000), st.integers(0, 10))
def test_the_way_delays_nothing_and_keeps_the_length(samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    place = int(generator.integers(samples))
    click = np.zeros(samples, np.float32)
    click[place] = 1
    heard = AcousticPath.through(Room(0.3, 10.0, seed), OPEN).heard(click)
    assert heard.shape == click.shape and heard.dtype == np.float32
    assert int(np.argmax(np.abs(heard))) == place


def test_a_long_sound_is_convolved_as_a_whole() -> None:
    audio = np.random.default_rng(0).standard_normal(80_000).astype(np.float32)
    path = AcousticPath.through(Room(0.4, 3.0, 2), Microphone(100.0, 6000.0))
    expected = np.convolve(audio.astype(np.float64), path.taps.astype(np.float64))
    wanted = expected[path.delay_samples :][: audio.size]
    assert np.allclose(path.heard(audio), wanted, atol=2e-5)


def test_silence_of_no_length_stays_it() -> None:
    assert AcousticPath.through(Room(0.4, 3.0, 2), OPEN).heard(np.zeros(0, np.float32)).size == 0
