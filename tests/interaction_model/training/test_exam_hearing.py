"""Transcripts against what was said: fewest errors, right words, latencies, digits."""

from __future__ import annotations

import pytest

from microturn.interaction_model.training.conduct import Conduct
from microturn.interaction_model.training.hearing_marks import aligned, digit_marks, hearing_marks, voice_of
from microturn.interaction_model.training.mouth_exam import edits
from microturn.interaction_model.training.scene import Phrase, Talk
from tests.interaction_model.training.bare_scenes import scene_of

pytestmark = pytest.mark.unit


def talk(start_ms: int, *words: str, clip: str = "espeak-ng-000042/7/x", speaker: int = 0) -> Talk:
    """Words of 400 ms each."""
    spans = tuple((400 * n, 400 * n + 400) for n in range(len(words)))
    return Talk(start_ms, speaker, Phrase(words, spans, clip))


def test_texts_are_aligned_with_the_fewest_errors() -> None:
    assert aligned(["a", "b", "c"], ["a", "x", "b", "c"]) == ([(0, 0), (1, 2), (2, 3)], 1)
    assert aligned(["a", "b", "c"], ["a", "d"]) == ([(0, 0), (2, 1)], 2)
    assert aligned([], ["a"]) == ([], 1) and aligned(["a"], []) == ([], 1)
    for said, heard in (("a b a b b", "b a b"), ("a a", "b b b"), ("a b c", "c a b")):
        assert aligned(said.split(), heard.split())[1] == edits(said.split(), heard.split())


def test_words_are_counted_and_right_ones_timed() -> None:
    scene = scene_of(talk(1000, "red", "ball"), talk(3000, "stop", speaker=2))
    # "red" ends in micro-turn 6, "ball" in 8; what others say is not to be written down.
    marks = dict(hearing_marks(scene, Conduct(heard=((8, "red"), (9, "box"), (16, "stop")))))
    assert marks["word_error_rate"] == (1.0, 2) == marks["word_error_rate_espeak-ng"]
    assert marks["heard_latency_turns"].value == 2


def test_words_where_nobody_speaks_are_counted_by_the_minute() -> None:
    marks = dict(hearing_marks(scene_of(), Conduct(heard=((3, "red"),))))
    assert marks["heard_in_vain_per_minute"].value == pytest.approx(6.0)
    assert "word_error_rate" not in marks


def test_digits_are_scored_alone_and_in_strings() -> None:
    scene = scene_of(talk(0, "one"), talk(2000, "two", "three", "four"), talk(5000, "six"))
    heard = tuple((turn, word) for turn, word in enumerate(["one", "two", "four", "six", "six"]))
    marks = list(digit_marks(scene, Conduct(heard=heard)))
    (whole,) = (mark for key, mark in marks if key == "digits_right")
    (string,) = (mark for key, mark in marks if key == "digits_of_strings")
    assert whole.weight == 5 and whole.value == pytest.approx(0.6)
    assert string.weight == 3 and string.value == pytest.approx(2 / 3)
    assert [mark.value for key, mark in marks if key == "digits_single"] == [1.0, 1.0]


def test_voices_are_named_by_who_makes_them() -> None:
    assert voice_of(scene_of(talk(0, "red"))) == "espeak-ng"
    assert voice_of(scene_of(talk(0, "one", clip="digits:theo:100:1-3-0"))) == "people"
    assert voice_of(scene_of()) == ""
