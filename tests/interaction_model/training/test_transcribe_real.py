"""The built-in recogniser and the aligner with recordings of people, where there are any."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from microturn.interaction_model.training.audio_rate import read_sound
from microturn.interaction_model.training.hearing_marks import aligned
from microturn.interaction_model.training.real_speech import (
    VARIABLE,
    DigitPart,
    spoken_digits,
    spoken_texts,
)
from microturn.interaction_model.training.transcriber import Transcriber
from microturn.interaction_model.training.utterances import Utterance, joined, trimmed
from microturn.weights import WeightError

pytestmark = pytest.mark.model

REAL = Path(os.environ.get(VARIABLE, Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    if not REAL.is_dir():
        pytest.skip(f"recordings of people are not in {REAL.name!r}; name their folder with {VARIABLE}")
    try:
        return Transcriber.shipped()
    except WeightError as error:
        pytest.skip(str(error))


def test_a_person_is_understood_and_the_words_lie_one_after_another(transcriber: Transcriber) -> None:
    path, text = next(iter(spoken_texts(REAL).items()))
    audio = read_sound(path)
    understood = transcriber.understood(audio)
    words = [word.word for word in understood.words]
    assert aligned(text, words)[1] <= 0.35 * len(text)
    assert understood.words[0].begin_ms >= 0 and understood.words[-1].end_ms <= audio.size / 16
    assert all(one.begin_ms < one.end_ms <= other.begin_ms for one, other in pairwise(understood.words))


def test_digits_of_people_are_found_where_they_were_put(transcriber: Transcriber) -> None:
    recordings = spoken_digits(REAL, DigitPart.TRAIN)
    generator = np.random.default_rng(3)
    errors = []
    for speaker in ("george", "jackson", "nicolas"):
        own = [each for each in recordings if each.speaker == speaker]
        said = [trimmed(own[int(at)].utterance(), 0) for at in generator.integers(len(own), size=10)]
        line = joined(said, [16 * int(pause) for pause in generator.integers(20, 300, 9)])
        noise = generator.normal(size=line.audio.size + 9600).astype(np.float32)
        whole = Utterance(np.pad(line.audio, 4800) + 2e-3 * noise, line.words, line.speaker)
        found = transcriber.given(whole.audio, whole.text)
        ends = [word.end_sample / 16 + 300 for word in line.words]
        errors += [word.end_ms - end for word, end in zip(found.words, ends, strict=True)]
    assert np.mean(np.abs(errors)) < 45 and abs(np.median(errors)) < 30
