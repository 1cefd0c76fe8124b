"""What is being said in each frame, and that later words never change earlier frames."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.native._errors import UnknownWordsError
from microturn.interaction_model.native.pronunciation import (
    ALPHABET,
    PAUSE,
    PRONUNCIATIONS,
    SILENCE,
    numbered,
    symbols,
)
from microturn.interaction_model.native.speech_track import (
    NEIGHBOURS,
    QUIET_FRAMES,
    FrameStates,
    SpeechTrack,
)
from microturn.interaction_model.native.vocabulary import WORDS

pytestmark = pytest.mark.unit

CUP = (5, 6, 7, 1)
KEY = (8, 9, 1)


def same(first: FrameStates, second: FrameStates) -> bool:
    return np.array_equal(first.symbols, second.symbols) and np.array_equal(first.measures, second.measures)


def test_every_word_of_the_vocabulary_has_a_pronunciation_in_the_alphabet() -> None:
    assert set(PRONUNCIATIONS) == set(WORDS)
    assert len(set(ALPHABET)) == len(ALPHABET)
    for word in WORDS:
        numbers = symbols(word)
        assert len(numbers) > 1, word
        assert "".join(ALPHABET[number - 1] for number in numbers) == PRONUNCIATIONS[word] + PAUSE
        assert SILENCE not in numbers


def test_a_word_outside_the_vocabulary_is_refused_without_being_repeated() -> None:
    with pytest.raises(UnknownWordsError) as caught:
        symbols("xylophone")
    assert "xylophone" not in str(caught.value)


def test_numbers_of_symbols_begin_behind_silence() -> None:
    assert numbered(PAUSE) == (1,)
    assert max(numbered(ALPHABET)) == len(ALPHABET)


def test_a_symbol_lasts_two_frames_for_each_unit() -> None:
    _, said = SpeechTrack().adding(CUP, (1, 3, 2, 1)).advanced(16)
    assert said.symbols[:, 1].tolist() == [5] * 2 + [6] * 6 + [7] * 4 + [1] * 2 + [SILENCE] * 2
    assert said.ends == (12,)


def test_a_frame_knows_its_neighbours_within_the_word() -> None:
    _, said = SpeechTrack().adding(CUP, (1, 1, 1, 1)).adding(KEY, (1, 1, 1)).advanced(14)
    assert said.symbols.shape == (14, NEIGHBOURS)
    assert said.symbols[::2].tolist() == [
        [SILENCE, 5, 6, 7],
        [5, 6, 7, 1],
        [6, 7, 1, SILENCE],
        [7, 1, SILENCE, SILENCE],
        [1, 8, 9, 1],
        [8, 9, 1, SILENCE],
        [9, 1, SILENCE, SILENCE],
    ]
    assert said.ends == (6, 12)


def test_frames_do_not_depend_on_where_they_are_cut() -> None:
    track = SpeechTrack().adding(CUP, (2, 3, 0, 1)).adding(KEY, (1, 2, 1))
    _, whole = track.advanced(60)
    for size in (1, 7, 16):
        now, parts, ends = track, [], []
        for begin in range(0, 60, size):
            now, said = now.advanced(min(size, 60 - begin))
            parts.append(said)
            ends += [begin + end for end in said.ends]
        joined = FrameStates(
            np.concatenate([p.symbols for p in parts]), np.concatenate([p.measures for p in parts])
        )
        assert same(joined, whole)
        assert tuple(ends) == whole.ends


def test_a_word_that_comes_in_time_is_said_as_if_it_had_been_known() -> None:
    before = SpeechTrack().adding(CUP, (2, 2, 2, 2))
    _, known = before.adding(KEY, (2, 2, 1)).advanced(32)
    first, head = before.advanced(16)
    _, rest = first.adding(KEY, (2, 2, 1)).advanced(16)
    joined = FrameStates(
        np.concatenate([head.symbols, rest.symbols]), np.concatenate([head.measures, rest.measures])
    )
    assert same(joined, known)


def test_symbols_without_length_are_left_out_but_a_word_always_ends() -> None:
    _, said = SpeechTrack().adding(CUP, (0, 0, 0, 0)).adding(KEY, (0, 1, 0)).advanced(6)
    assert said.symbols[:, 1].tolist() == [7, 7, 9, 9, SILENCE, SILENCE]
    assert said.ends == (2, 4)


def test_the_measures_go_from_0_to_1() -> None:
    track = SpeechTrack()
    for _ in range(20):
        track = track.adding(CUP, (11, 2, 3, 1))
    _, said = track.advanced(800)
    assert said.measures.min() >= 0
    assert said.measures.max() <= 1
    assert said.measures[:22, 0] == pytest.approx((np.arange(22) + 0.5) / 22)


def test_silence_forgets_the_last_word_after_a_while() -> None:
    track, _ = SpeechTrack().adding(KEY, (1, 1, 1)).advanced(6)
    assert not track.is_quiet
    later, said = track.advanced(QUIET_FRAMES)
    assert said.symbols[:, 0].tolist() == [1] * QUIET_FRAMES
    assert said.measures[:, 0].tolist() == [frame / QUIET_FRAMES for frame in range(QUIET_FRAMES)]
    assert later.is_quiet
    assert later == SpeechTrack()


def test_a_cut_track_has_nothing_left_to_say() -> None:
    track, _ = SpeechTrack().adding(CUP, (5, 5, 5, 5)).advanced(13)
    _, said = track.cut().advanced(4)
    assert said.symbols[:, 1:].tolist() == [[SILENCE] * 3] * 4
    assert said.ends == ()


def test_units_must_be_as_many_as_symbols() -> None:
    with pytest.raises(ValueError, match="shorter"):
        SpeechTrack().adding(CUP, (1, 1))


def test_the_text_form_does_not_tell_what_is_said() -> None:
    assert "TimedSymbol" not in repr(SpeechTrack().adding(CUP, (1, 1, 1, 1)))
