"""Words in sound that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.training.utterances import (
    PEAK,
    USUAL_LEVEL,
    SpokenWord,
    Utterance,
    joined,
    levelled,
    speech_level,
    tightened,
    trimmed,
)
from microturn.protocols import Samples

pytestmark = pytest.mark.unit


def burst(begin: int, end: int, length: int, level: float = 0.5) -> Samples:
    audio = np.zeros(length, np.float32)
    audio[begin:end] = level * np.where(np.arange(end - begin) % 2, 1, -1)
    return audio


def one(audio: Samples, *words: SpokenWord) -> Utterance:
    return Utterance(audio, words, "somebody")


def test_a_word_is_cut_to_its_sound() -> None:
    loose = one(burst(1600, 3200, 6400), SpokenWord("red", 0, 4800))
    assert tightened(loose).words == (SpokenWord("red", 1600, 3200),)


def test_a_word_never_grows() -> None:
    inside = one(burst(1600, 3200, 6400), SpokenWord("red", 1650, 3100))
    assert tightened(inside).words == inside.words


def test_sound_forty_decibels_down_is_silence_and_thirty_is_not() -> None:
    quiet, loud = burst(0, 1600, 6400, 0.5 * 10**-2.1), burst(0, 1600, 6400, 0.5 * 10**-1.5)
    voice = burst(1600, 6400, 6400)
    assert tightened(one(quiet + voice, SpokenWord("red", 0, 6400))).words[0].start_sample == 1600
    assert tightened(one(loud + voice, SpokenWord("red", 0, 6400))).words[0].start_sample == 0


def test_a_word_of_which_too_little_would_be_left_keeps_its_times() -> None:
    for audio in (burst(0, 160, 6400), np.zeros(6400, np.float32)):
        assert tightened(one(audio, SpokenWord("red", 0, 6400))).words == (SpokenWord("red", 0, 6400),)


def test_trimming_keeps_a_margin_and_moves_the_words_with_the_sound() -> None:
    audio = burst(1600, 3200, 6400)
    short = trimmed(one(audio, SpokenWord("red", 1600, 2000), SpokenWord("ball", 2100, 3200)), 100)
    assert np.array_equal(short.audio, audio[1500:3300])
    assert short.words == (SpokenWord("red", 100, 500), SpokenWord("ball", 600, 1700))


def test_trimming_adds_no_sound_where_there_is_none() -> None:
    utterance = one(burst(0, 3200, 3200), SpokenWord("red", 10, 3190))
    short = trimmed(utterance, 1000)
    assert np.array_equal(short.audio, utterance.audio) and short.words == utterance.words


def test_joining_puts_words_where_their_sound_is() -> None:
    first = one(burst(0, 100, 200), SpokenWord("red", 0, 100))
    second = one(burst(50, 100, 200, 0.25), SpokenWord("ball", 50, 100))
    both = joined([first, second], [30])
    assert both.text == ("red", "ball")
    assert both.words[1] == SpokenWord("ball", 280, 330)
    assert np.array_equal(both.audio[280:330], second.audio[50:100])
    assert both.audio.size == 430 and both.audio.dtype == np.float32


def test_only_one_speaker_is_joined_and_with_the_right_number_of_pauses() -> None:
    first = one(burst(0, 100, 200), SpokenWord("red", 0, 100))
    with pytest.raises(ValueError, match="pauses"):
        joined([first, first], [])
    with pytest.raises(ValueError, match="speaker"):
        joined([first, Utterance(first.audio, first.words, "another")], [0])


def test_the_level_is_that_of_the_sound_and_not_of_the_silence() -> None:
    assert speech_level(burst(1600, 3200, 160_000, 0.3)) == pytest.approx(0.3)
    assert speech_level(np.zeros(1000, np.float32)) == 0
    assert speech_level(np.zeros(0, np.float32)) == 0


def test_levelling_brings_sound_to_the_usual_level() -> None:
    utterance = one(burst(1600, 3200, 6400, 0.013), SpokenWord("red", 1600, 3200))
    assert speech_level(levelled(utterance).audio) == pytest.approx(USUAL_LEVEL, rel=1e-5)


def test_levelling_lets_no_peak_grow_too_large() -> None:
    audio = burst(0, 1600, 1600, 0.01)
    audio[800] = 0.9
    even = levelled(one(audio, SpokenWord("red", 0, 1600))).audio
    assert np.abs(even).max() == pytest.approx(PEAK)


def test_silence_stays_silence() -> None:
    silence = one(np.zeros(100, np.float32), SpokenWord("red", 0, 100))
    assert levelled(silence) is silence
