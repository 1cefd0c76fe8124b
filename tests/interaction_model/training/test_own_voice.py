"""The teacher of the mouth: what is left of its voice in the code, and that its symbols lie where they are heard."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.native.pronunciation import ALPHABET, PAUSE, PRONUNCIATIONS
from microturn.interaction_model.native.speech_track import UNIT_FRAMES
from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training.own_voice import TARGET_RMS, OwnVoice, draw

pytestmark = pytest.mark.model

PHRASES = (
    "the green book is on the kitchen table",
    "i found a flight to london on friday morning",
    "please open the window in the bathroom",
    "your meeting is tomorrow evening",
    "breathe in and out",
)


@pytest.fixture(scope="module")
def teacher() -> OwnVoice:
    return OwnVoice()


def test_pronunciations_are_the_teachers(teacher: OwnVoice) -> None:
    for word in WORDS:
        said = "".join(group.phonemes for group in teacher.groups(word))
        assert PRONUNCIATIONS[word] == "".join(s for s in said if s in ALPHABET and s != PAUSE), word


def test_coded_speech_is_understood(teacher: OwnVoice, recognizer: MoonshineRecognizer) -> None:
    understood = 0
    for phrase in PHRASES:
        sound = np.concatenate([np.zeros(4_800, np.float32), draw(teacher.say(phrase.split()).frames)])
        heard = recognizer.transcribe(np.asarray(resample_poly(sound, 2, 3), np.float32)).text
        understood += re.findall(r"[a-z']+", heard.lower()) == phrase.split()
    assert understood >= len(PHRASES) - 1


def test_a_phrase_has_the_common_loudness_and_ends_in_silence(teacher: OwnVoice) -> None:
    phrase = teacher.say(PHRASES[0].split())
    sound = draw(phrase.frames).reshape(-1, 300)
    level = np.sqrt(np.square(sound).mean(1))
    assert np.sqrt(np.mean(level[level > 0.004] ** 2)) == pytest.approx(TARGET_RMS, rel=0.05)
    assert level[-4:].max() < 0.004


@pytest.mark.parametrize("word", ["seven", "stop", "it", "kitchen", "squat"])
def test_sound_begins_and_ends_with_its_symbols(teacher: OwnVoice, word: str) -> None:
    phrase = teacher.say([word])
    assert len(phrase.units) == 1
    assert len(phrase.units[0]) == len(PRONUNCIATIONS[word] + PAUSE)
    level = np.sqrt(np.square(draw(phrase.frames).reshape(-1, 300)[2:]).mean(1))  # two frames of delay
    loud = np.flatnonzero(level > 0.01)
    assert loud[0] <= 5
    assert abs(loud[-1] + 1 - UNIT_FRAMES * sum(phrase.units[0])) <= 3


def test_a_phrase_holds_every_symbol_of_its_words(teacher: OwnVoice) -> None:
    words = PHRASES[1].split()
    phrase = teacher.say(words)
    assert [len(units) for units in phrase.units] == [len(PRONUNCIATIONS[word]) + 1 for word in words]
    frames = UNIT_FRAMES * sum(sum(units) for units in phrase.units)
    assert frames <= len(phrase.frames) <= frames + 24
