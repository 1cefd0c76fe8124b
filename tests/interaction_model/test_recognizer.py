"""Recognition with real weights, of a made voice, of people, and of what is no speech."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from microturn.interaction_model.cascade.recognizer import NOTHING, MoonshineRecognizer
from microturn.interaction_model.cascade.voice import Voice
from microturn.protocols import Samples

pytestmark = pytest.mark.model


def words(text: str) -> list[str]:
    """Return the words of a text, bare."""
    return re.findall(r"[a-z']+", text.lower())


def say(voice: Voice, text: str) -> Samples:
    """Return the text as it is heard."""
    return np.asarray(resample_poly(voice.render(text).audio, 2, 3), np.float32)


@pytest.mark.parametrize(
    "text",
    ["What is the capital of Portugal?", "Set a timer for eight minutes.", "Never mind, forget about it."],
)
def test_a_sentence_is_understood(recognizer: MoonshineRecognizer, voice: Voice, text: str) -> None:
    heard = recognizer.transcribe(say(voice, text))
    assert heard.text.lower().replace("8", "eight") == text.lower()
    assert -0.5 < heard.mean_logprob < 0


def test_people_are_understood(recognizer: MoonshineRecognizer, real_speech: Path) -> None:
    lines = (line.split("\t") for line in (real_speech / "transcripts.tsv").read_text().splitlines()[2:7])
    wrong = total = 0
    for name, text in lines:
        audio, _ = soundfile.read(real_speech / name, dtype="float32")
        expected, heard = words(text), words(recognizer.transcribe(audio).text)
        wrong += len(set(expected) ^ set(heard))
        total += len(expected)
    assert wrong / total < 0.25


def no_speech() -> Iterator[tuple[str, Samples]]:
    """Yield sounds in which nobody speaks."""
    random = np.random.default_rng(3)
    yield "nothing", np.zeros(0, np.float32)
    yield "silence", np.zeros(16_000, np.float32)
    yield "a click", np.eye(1, 8_000, 4_000, dtype=np.float32)[0]
    yield "a tone", (0.2 * np.sin(np.arange(32_000) * 0.17)).astype(np.float32)
    for seconds in (0.5, 2, 5):
        for level in (1e-4, 3e-3, 2e-2, 0.1, 0.3):
            yield (
                f"noise {level} {seconds}",
                (level * random.standard_normal(int(16_000 * seconds))).astype(np.float32),
            )


@pytest.mark.parametrize(("name", "sound"), list(no_speech()))
def test_where_nobody_speaks_nothing_is_heard(
    recognizer: MoonshineRecognizer, name: str, sound: Samples
) -> None:
    assert recognizer.transcribe(sound).text == "", name


def test_silence_costs_no_decoding(recognizer: MoonshineRecognizer) -> None:
    assert recognizer.transcribe(np.zeros(16_000, np.float32)) is NOTHING


def test_long_sound_is_taken_whole(recognizer: MoonshineRecognizer, voice: Voice) -> None:
    text = (
        "I would like to book a table for four people on Friday evening at the Italian place near the station, "
        "and if they are full, please try the small restaurant by the river where we went last summer, "
        "or anything else that you think my parents might like."
    )
    heard = recognizer.transcribe(say(voice, text))
    assert words(heard.text)[-3:] == ["parents", "might", "like"]


def test_tokens_stay_within_what_can_be_said(recognizer: MoonshineRecognizer, voice: Voice) -> None:
    sound = say(voice, "Hello, hello, hello, hello, hello, hello, hello, hello.")
    assert recognizer.transcribe(sound).tokens <= sound.size / 16_000 * 6.5 + 4
