"""The account of what was heard: to the sample and to the word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.protocols import MicroTurnOutput, SpokenWord, Utterance
from microturn.runtime.playout import FADE_SAMPLES, Playout

pytestmark = pytest.mark.unit


def output(samples: int, words: tuple[SpokenWord, ...] = (), utterance: str | None = None) -> MicroTurnOutput:
    begun = (Utterance(utterance, "one two", "reply"),) if utterance else ()
    return MicroTurnOutput(0, np.ones(samples, np.float32), words=words, utterances=begun)


def word(index: int, end: int, *, last: bool = False) -> SpokenWord:
    return SpokenWord("u", index, end, last)


def test_silence_is_played_where_there_is_no_speech() -> None:
    playout = Playout()
    assert not playout.play(480).any()
    playout.push(output(100))
    assert playout.play(480).sum() == 100
    assert playout.clock_samples == 960


@given(st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_speech_is_played_whole_however_it_is_asked_for(blocks: list[int]) -> None:
    playout = Playout()
    speech = np.arange(1, 5001, dtype=np.float32)
    playout.push(MicroTurnOutput(0, speech[:3000]))
    playout.push(MicroTurnOutput(1, speech[3000:]))
    got = np.concatenate([playout.play(block) for block in [*blocks, 5000]])
    assert np.array_equal(got[got > 0], speech)


def test_a_word_is_heard_when_its_last_sample_was_played() -> None:
    playout = Playout()
    playout.push(output(1000, (word(0, 400), word(1, 1000, last=True)), "u"))
    playout.play(399)
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(0, False)]
    playout.play(1)
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(1, False)]
    playout.play(600)
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(2, True)]
    assert playout.take_heard() == ()


def test_the_beginning_of_an_utterance_is_known_to_the_sample() -> None:
    playout = Playout()
    playout.play(300)
    playout.push(output(1000, (), "u"))
    playout.play(480)
    (began,) = playout.take_begun()
    assert began.sample == 300


def test_stopping_discards_the_rest_but_for_a_short_fade() -> None:
    playout = Playout()
    playout.push(output(4800, (word(0, 2000), word(1, 4800, last=True)), "u"))
    playout.play(2100)
    playout.stop()
    after = playout.play(4800)
    assert 0 < np.count_nonzero(after) <= FADE_SAMPLES
    assert np.all(np.diff(after[:FADE_SAMPLES]) <= 0)
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(1, True)]
    assert playout.backlog_samples == 0


def test_a_hold_keeps_what_was_not_played_and_goes_on_with_it() -> None:
    playout = Playout()
    playout.push(output(4800, (word(0, 2000), word(1, 4800, last=True)), "u"))
    playout.play(1000)
    playout.hold()
    held = playout.play(4800)
    assert np.count_nonzero(held) <= FADE_SAMPLES
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(0, False)]
    playout.resume()
    rest = playout.play(4800)
    assert np.count_nonzero(rest) == 4800 - 1000 - FADE_SAMPLES
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(2, True)]


def test_a_stop_after_a_hold_ends_every_utterance() -> None:
    playout = Playout()
    playout.push(output(4800, (word(0, 2000), word(1, 4800, last=True)), "u"))
    playout.play(2500)
    playout.hold()
    playout.play(4800)
    playout.stop()
    assert not playout.play(4800).any()
    assert [(h.words, h.finished) for h in playout.take_heard()] == [(1, True)]
