"""What the mouth says slice by slice, and the account of its words."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from microturn.interaction_model.cascade.mouth import GAP_SAMPLES, Mouth, Slice
from microturn.protocols import OUTPUT_LEAD_SAMPLES, OUTPUT_SAMPLES
from microturn.runtime.testing import ToneVoice

pytestmark = pytest.mark.unit

WORD = 7200
"""Samples of a word of `ToneVoice`."""


def said(mouth: Mouth, slices: int = 40) -> list[Slice]:
    return [mouth.speak(OUTPUT_SAMPLES) for _ in range(slices)]


def test_a_line_is_said_whole_with_every_word_once() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two three", "reply")
    slices = said(mouth)
    assert sum(len(each.audio) for each in slices) == 3 * WORD + GAP_SAMPLES
    assert [word.index for each in slices for word in each.words] == [0, 1, 2]
    assert [word.last for each in slices for word in each.words] == [False, False, True]


def test_the_first_slice_runs_ahead_of_the_beat_and_the_next_do_not() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two three", "reply")
    first, second = said(mouth, 2)
    assert len(first.audio) == OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES
    assert len(second.audio) == OUTPUT_SAMPLES


def test_word_ends_add_up_over_the_slices() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two three", "reply")
    position, ends = 0, []
    for each in said(mouth):
        ends += [position + word.end_sample for word in each.words]
        position += len(each.audio)
    assert ends == [WORD, 2 * WORD, 3 * WORD]


def test_an_urgent_line_waits_only_for_the_end_of_the_word() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two three", "reply")
    before = mouth.speak(OUTPUT_SAMPLES)
    mouth.say("now", "woven", item_id="urgent", urgent=True)
    after = said(mouth)
    order = [(word.utterance_id, word.index) for each in [before, *after] for word in each.words]
    assert order == [("utterance-0", 0), ("utterance-1", 0), ("utterance-0", 1), ("utterance-0", 2)]
    assert [u.item_id for each in after for u in each.utterances] == ["urgent"]


def test_an_utterance_that_begins_inside_a_slice_says_where() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one", "reply")
    mouth.say("two", "reply")
    slices = said(mouth)
    starts, position = [], 0
    for each in slices:
        starts += [position + u.start_sample for u in each.utterances]
        position += len(each.audio)
    assert starts == [0, WORD + GAP_SAMPLES]


def test_text_without_words_is_nothing_to_say() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("  ", "reply")
    assert not mouth.is_speaking


def test_clearing_leaves_silence() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two", "reply")
    mouth.speak(OUTPUT_SAMPLES)
    mouth.clear()
    assert len(mouth.speak(OUTPUT_SAMPLES).audio) == 0


def test_a_copy_goes_on_by_itself() -> None:
    mouth = Mouth(ToneVoice())
    mouth.say("one two three", "reply")
    mouth.speak(OUTPUT_SAMPLES)
    twin = copy.deepcopy(mouth)
    rest, same = said(mouth), said(twin)
    assert all(
        np.array_equal(a.audio, b.audio) and a.words == b.words for a, b in zip(rest, same, strict=True)
    )
