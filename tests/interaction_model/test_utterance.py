"""One turn's open sound: how it is cut, committed and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.cascade.segmenter import Gap
from microturn.interaction_model.cascade.utterance import (
    LONGEST_SAMPLES,
    MOST_SAMPLES,
    MOST_TEXT,
    PartialText,
    Utterance,
    join_text,
)
from microturn.protocols import INPUT_RATE_HZ, INPUT_SAMPLES, Samples

pytestmark = pytest.mark.unit

SECOND = INPUT_RATE_HZ


def ramp(seconds: float, start: int = 0) -> Samples:
    """Sound whose samples tell their position."""
    return np.arange(start, start + int(seconds * SECOND), dtype=np.float32)


def answer(utterance: Utterance, text: str = "words") -> PartialText:
    """Read a job as a recogniser would that hears `text` in each piece."""
    job = utterance.job()
    until = job.start_sample + sum(piece.size for piece in job.pieces[:-1])
    committed = " ".join([job.committed, *[text] * (len(job.pieces) - 1)]).strip()
    return PartialText(job.turn, f"{committed} {text}", text, committed, until, job.end_sample, -0.1)


def test_a_short_utterance_is_read_whole() -> None:
    job = Utterance(0, 100).heard(ramp(1)).heard(ramp(1, SECOND)).job()
    assert len(job.pieces) == 1
    assert np.array_equal(job.pieces[0], ramp(2))
    assert (job.start_sample, job.end_sample) == (100, 100 + 2 * SECOND)


def test_a_job_can_end_before_the_silence() -> None:
    job = Utterance(0, 100).heard(ramp(2)).job(until=100 + SECOND)
    assert job.end_sample == 100 + SECOND


def test_a_long_utterance_is_cut_at_its_last_pause() -> None:
    gaps = (Gap(3 * SECOND, 4 * SECOND), Gap(7 * SECOND, 8 * SECOND))
    job = Utterance(0, 0).heard(ramp(9), gaps).job()
    assert [piece.size for piece in job.pieces] == [int(7.5 * SECOND), int(1.5 * SECOND)]


def test_without_a_pause_it_is_cut_where_it_is_quietest() -> None:
    sound = np.ones(13 * SECOND, np.float32)
    sound[11 * SECOND - 960 : 11 * SECOND] = 0
    pieces = Utterance(0, 0).heard(sound).job().pieces
    assert len(pieces) == 2
    assert abs(pieces[0].size - (11 * SECOND - 480)) <= 2


def test_a_pause_too_near_the_beginning_is_no_cut() -> None:
    job = Utterance(0, 0).heard(ramp(9), (Gap(SECOND, SECOND + 4_000),)).job()
    assert len(job.pieces) == 1


def test_committed_sound_is_dropped_and_its_text_kept() -> None:
    utterance = Utterance(0, 50).heard(ramp(9), (Gap(50 + 4 * SECOND, 50 + 5 * SECOND),))
    utterance = utterance.heard(ramp(1, 9 * SECOND)).read(answer(utterance))
    assert utterance.start_sample == 50 + int(4.5 * SECOND)
    assert utterance.committed == "words"
    assert utterance.gaps == ()
    assert np.array_equal(utterance.job().pieces[0], ramp(5.5, int(4.5 * SECOND)))


def test_the_text_of_another_turn_changes_nothing() -> None:
    utterance = Utterance(0, 0).heard(ramp(9), (Gap(4 * SECOND, 5 * SECOND),))
    other = Utterance(1, 0).heard(ramp(9))
    assert other.read(answer(utterance)) is other


def test_minutes_of_speech_without_a_pause_stay_bounded() -> None:
    utterance = Utterance(0, 0)
    for at in range(0, 300 * SECOND, INPUT_SAMPLES):
        utterance = utterance.heard(np.ones(INPUT_SAMPLES, np.float32))
        job = utterance.job()
        assert all(piece.size <= LONGEST_SAMPLES for piece in job.pieces), at
        utterance = utterance.read(answer(utterance))
        assert utterance.end_sample - utterance.start_sample <= LONGEST_SAMPLES
    assert utterance.end_sample == 300 * SECOND
    assert utterance.lost_samples == 0


def test_a_recogniser_that_does_not_answer_costs_the_oldest_sound() -> None:
    utterance = Utterance(0, 0)
    for _ in range(40):
        utterance = utterance.heard(ramp(1))
    assert utterance.end_sample - utterance.start_sample == MOST_SAMPLES
    assert utterance.end_sample == 40 * SECOND
    assert utterance.lost_samples == 10 * SECOND


def test_text_is_bounded_by_whole_words() -> None:
    text = join_text("first " + "word " * (MOST_TEXT // 5), "last")
    assert len(text) <= MOST_TEXT
    assert text.startswith("word ")
    assert text.endswith(" last")
