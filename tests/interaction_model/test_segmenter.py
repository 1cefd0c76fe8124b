"""Segments from made-up probabilities: one digit per window of 32 ms, in tenths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.cascade.segmenter import (
    Gap,
    Segmenter,
    SegmenterConfig,
    SegmenterState,
    SpeechActivity,
)
from microturn.interaction_model.cascade.vad import WINDOW_SAMPLES, VadWindow

pytestmark = pytest.mark.unit


def run(
    digits: str, segmenter: Segmenter | None = None, state: SegmenterState | None = None, start: int = 0
) -> tuple[SegmenterState, SpeechActivity]:
    """Take in all windows in one step that ends where the last one ends."""
    segmenter = segmenter or Segmenter()
    windows = [VadWindow((start + i) * WINDOW_SAMPLES, int(digit) / 10) for i, digit in enumerate(digits)]
    return segmenter.step(state or segmenter.start(), windows, (start + len(digits)) * WINDOW_SAMPLES)


def test_before_any_speech_there_is_no_silence_to_measure() -> None:
    _, activity = run("0000")
    assert activity.silence_ms is None
    assert not activity.speaking
    assert activity.segment_start is None


def test_speech_begins_at_its_first_window_with_pre_roll() -> None:
    _, activity = run("00000000009999")
    assert activity.started
    assert activity.speaking
    assert activity.segment_start == 10 * WINDOW_SAMPLES - 200 * 16
    assert activity.speech_ms == 4 * 32
    assert activity.silence_ms == 0


def test_a_pre_roll_does_not_reach_before_the_stream() -> None:
    assert run("09999")[1].segment_start == 0


def test_a_click_is_no_speech() -> None:
    _, activity = run("0000990000")
    assert not activity.started
    assert activity.speech_ms == 0
    assert activity.last_speech_end is None


def test_a_click_does_not_end_a_silence() -> None:
    _, activity = run("9999" + "00090000")
    assert activity.silence_ms == 8 * 32
    assert activity.last_speech_end == 4 * WINDOW_SAMPLES


def test_speech_that_may_be_starting_is_told_and_silence_still_counts() -> None:
    _, activity = run("9999" + "0009")
    assert activity.may_be_starting
    assert not activity.speaking
    assert activity.silence_ms == 4 * 32


def test_middling_probabilities_go_on_with_what_was() -> None:
    assert run("44444")[1].last_speech_end is None
    assert run("999944")[1].speaking
    assert not run("999933")[1].speaking


def test_silence_is_counted_to_the_last_sample_heard() -> None:
    segmenter = Segmenter()
    windows = [VadWindow(i * WINDOW_SAMPLES, p) for i, p in enumerate((0.9, 0.9, 0.9, 0.1))]
    _, activity = segmenter.step(segmenter.start(), windows, 4 * WINDOW_SAMPLES + 160)
    assert activity.silence_ms == 32 + 10


def test_a_short_pause_stays_inside_the_segment_and_is_reported() -> None:
    _, activity = run("9999" + "00000" + "999")
    assert not activity.ended
    assert activity.gaps == (Gap(4 * WINDOW_SAMPLES, 9 * WINDOW_SAMPLES),)
    assert activity.segment_start == 0


def test_a_long_pause_ends_the_segment() -> None:
    state, activity = run("9999" + "00000000")
    assert activity.ended
    assert activity.segment_start is None
    _, later = run("0000" + "999", state=state, start=12)
    assert later.started
    assert not later.gaps
    assert later.segment_start == 16 * WINDOW_SAMPLES - 200 * 16


def test_a_pre_roll_does_not_reach_into_the_segment_before() -> None:
    segmenter = Segmenter(SegmenterConfig(join_ms=64))
    _, activity = run("9999" + "00" + "999", segmenter)
    assert activity.segment_start == 4 * WINDOW_SAMPLES


@given(st.text("0123456789", min_size=1, max_size=60), st.data())
def test_what_is_found_does_not_depend_on_how_windows_are_grouped(digits: str, data: st.DataObject) -> None:
    segmenter = Segmenter()
    expected, whole = run(digits, segmenter)
    state, at, speech_ms, gaps = segmenter.start(), 0, 0, tuple[Gap, ...]()
    while at < len(digits):
        size = data.draw(st.integers(1, len(digits) - at))
        state, activity = run(digits[at : at + size], segmenter, state, at)
        speech_ms, gaps, at = speech_ms + activity.speech_ms, gaps + activity.gaps, at + size
    assert state == expected
    assert speech_ms == whole.speech_ms
    assert gaps == whole.gaps
    assert activity.silence_ms == whole.silence_ms
