"""Pauses are put into speech where the script says, and times are measured right."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("hibari", reason="the voice of the recordings needs the extra [speech]")

from kokoro_voice import SAMPLE_RATE_HZ as VOICE_RATE_HZ
from kokoro_voice import Rendering, Samples, WordTiming
from spoken_line import (
    SAMPLE_RATE_HZ,
    Span,
    parse_marked,
    room_threshold_db,
    silences,
    speech_span,
    with_pauses,
)

from microturn.protocols import UserError

pytestmark = pytest.mark.unit


def tone(length_s: float, rate_hz: int = VOICE_RATE_HZ) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 300 * np.arange(round(length_s * rate_hz)) / rate_hz)).astype(np.float32)


def quiet(length_s: float, rate_hz: int = VOICE_RATE_HZ) -> Samples:
    return np.zeros(round(length_s * rate_hz), np.float32)


def rendering(*parts: Samples) -> Rendering:
    """Parts that sound are words; the others are silence between them."""
    words: list[WordTiming] = []
    position = 0
    for part in parts:
        if part.any():
            words.append(WordTiming(f"w{len(words)}", position, position + part.size))
        position += part.size
    return Rendering(np.concatenate(parts), tuple(words))


def test_a_marked_text_is_taken_apart_into_words_and_pauses() -> None:
    marked = parse_marked("Set a timer for… {0.5} um, {1.0} ten minutes.")
    assert marked.text == "Set a timer for… um, ten minutes."
    assert marked.pauses_s == {4: 0.5, 5: 1.0}


@pytest.mark.parametrize("line", ["{0.5} ten minutes.", "ten minutes. {0.5}", "{0.5}"])
def test_a_pause_at_the_edge_of_a_line_is_refused(line: str) -> None:
    with pytest.raises(UserError, match="between two words"):
        parse_marked(line)


def test_flowing_speech_is_cut_at_the_word_boundary_and_set_apart() -> None:
    line = with_pauses(rendering(quiet(0.2), tone(0.5), tone(0.5), quiet(0.2)), {1: 0.6})
    assert line.audio.size == pytest.approx(1.6 * SAMPLE_RATE_HZ, abs=0.03 * SAMPLE_RATE_HZ)
    [pause] = line.pauses
    assert pause.start_ms == pytest.approx(500, abs=50)
    assert pause.end_ms - pause.start_ms == pytest.approx(600, abs=30)


def test_a_silence_of_the_voice_counts_towards_the_pause() -> None:
    line = with_pauses(rendering(tone(0.5), quiet(0.3), tone(0.5)), {1: 0.7})
    [pause] = line.pauses
    assert pause.end_ms - pause.start_ms == pytest.approx(700, abs=20)


def test_a_silence_longer_than_the_mark_is_left_as_it_is() -> None:
    line = with_pauses(rendering(tone(0.5), quiet(0.8), tone(0.5)), {1: 0.3})
    assert [pause.end_ms - pause.start_ms for pause in line.pauses] == [pytest.approx(800, abs=20)]


def test_words_after_a_pause_are_later_by_its_length() -> None:
    plain = rendering(tone(0.4), tone(0.4), tone(0.4))
    without, with_pause = with_pauses(plain, {}), with_pauses(plain, {2: 0.5})
    shifts = [
        after.start_sample - before.start_sample
        for before, after in zip(without.words, with_pause.words, strict=True)
    ]
    assert shifts[:2] == [0, 0]
    assert shifts[2] == pytest.approx(0.5 * SAMPLE_RATE_HZ, abs=0.02 * SAMPLE_RATE_HZ)


def test_a_silence_without_a_mark_is_no_pause() -> None:
    line = with_pauses(rendering(tone(0.4), quiet(0.6), tone(0.4), tone(0.4)), {2: 0.5})
    [pause] = line.pauses
    assert pause.start_ms == pytest.approx(1400, abs=50)


def test_speech_is_found_between_silences() -> None:
    sound = np.concatenate([quiet(0.5, 16_000), tone(1.0, 16_000), quiet(0.7, 16_000)])
    assert speech_span(sound) == Span(500, 1500)


def test_silence_without_speech_is_an_error() -> None:
    with pytest.raises(UserError, match="silent"):
        speech_span(quiet(1.0, 16_000))


def test_pauses_are_found_over_the_noise_of_a_loud_room() -> None:
    sound = np.concatenate([quiet(0.5, 16_000), tone(1.0, 16_000), quiet(0.4, 16_000), tone(0.5, 16_000)])
    sound += np.random.default_rng(1).normal(0.0, 0.01, sound.size).astype(np.float32)
    assert silences(sound, 300) == ()
    [pause] = silences(sound, 300, room_threshold_db(sound))
    assert pause.start_ms == pytest.approx(1500, abs=20)
    assert pause.end_ms == pytest.approx(1900, abs=20)
