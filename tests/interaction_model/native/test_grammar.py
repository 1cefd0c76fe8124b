"""The layout of micro-turns: what is packed comes back, and training and serving lay out alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS
from microturn.interaction_model.native.grammar import (
    AUDIO_TOKENS,
    MEL_BINS,
    NO_TARGET,
    Bytes,
    Inputs,
    PositionKind,
    lay_out,
    pack,
    unpack,
)
from microturn.interaction_model.native.vocabulary import (
    WORDS,
    Token,
    heard_token,
    read_token,
    said_token,
)

pytestmark = pytest.mark.unit

words = st.lists(st.sampled_from(WORDS), max_size=4).map(tuple)
some_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(tuple)
arriving = st.builds(Inputs, st.integers(0, 12), words, st.lists(some_words, max_size=2).map(tuple))
plain = st.sampled_from(WORDS).flatmap(lambda word: st.sampled_from([heard_token(word), said_token(word)]))
marks = st.sampled_from([int(Token.CANCEL), int(Token.BACKCHANNEL)])
tasks = st.lists(st.sampled_from(WORDS).map(heard_token), min_size=1, max_size=3).map(
    lambda intent: [int(Token.DELEGATE), *intent, int(Token.END_DELEGATE)]
)
parts = st.one_of(plain.map(lambda one: [one]), marks.map(lambda one: [one]), tasks)
outputs = (
    st.lists(parts, max_size=4)
    .map(lambda some: tuple(token for part in some for token in part))
    .filter(lambda tokens: len(tokens) <= MAX_OUTPUT_TOKENS)
)
scenes = st.lists(st.tuples(arriving, outputs), min_size=1, max_size=6)


def levels_for(micro_turns: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 16, (AUDIO_TOKENS * micro_turns, MEL_BINS), dtype=np.uint8)


@given(scenes)
def test_what_is_packed_comes_back(scene: list[tuple[Inputs, tuple[int, ...]]]) -> None:
    inputs, targets = [each for each, _ in scene], [each for _, each in scene]
    assert unpack(pack(inputs, targets, levels_for(len(scene)))) == (inputs, targets)


@given(scenes)
def test_serving_lays_out_the_inputs_that_training_packs(scene: list[tuple[Inputs, tuple[int, ...]]]) -> None:
    packed = pack([each for each, _ in scene], [each for _, each in scene], levels_for(len(scene)))
    begin, patches = 0, 0
    for turn, (inputs, emitted) in enumerate(scene):
        laid = lay_out(inputs, first_frame=turn * AUDIO_TOKENS, first_patch=patches)
        patches += inputs.patches
        end = begin + len(laid.ids)
        assert np.array_equal(packed.kinds[begin:end], laid.kinds)
        assert np.array_equal(packed.ids[begin:end], laid.ids)
        assert packed.last[turn] == end + len(emitted) - 1
        begin = end + len(emitted)
    assert begin == len(packed.ids)


@given(scenes)
def test_only_now_and_outputs_predict_and_each_micro_turn_predicts_end_last(
    scene: list[tuple[Inputs, tuple[int, ...]]],
) -> None:
    packed = pack([each for each, _ in scene], [each for _, each in scene], levels_for(len(scene)))
    asked = np.isin(packed.kinds, [PositionKind.NOW, PositionKind.OUTPUT])
    assert np.array_equal(packed.loss_mask, asked)
    assert (packed.targets[packed.last] == Token.END).all()
    assert np.count_nonzero(packed.targets == Token.END) == len(scene)
    inner = packed.loss_mask & (packed.targets != Token.END)
    following = np.flatnonzero(inner) + 1
    assert np.array_equal(packed.targets[inner], packed.ids[following])
    assert (packed.kinds[following] == PositionKind.OUTPUT).all()


def test_a_silent_second_is_25_positions() -> None:
    packed = pack([Inputs()] * 5, [()] * 5, levels_for(5))
    assert packed.kinds.tolist() == [0, 0, 0, 0, PositionKind.NOW] * 5
    assert packed.targets.tolist() == [NO_TARGET] * 4 + [Token.END] + ([NO_TARGET] * 4 + [Token.END]) * 4
    assert packed.micro_turns.tolist() == [turn for turn in range(5) for _ in range(5)]


def test_a_full_micro_turn_is_laid_out_in_the_order_of_the_design() -> None:
    inputs = Inputs(patches=2, text=("stop",), background=(("it", "is"), ("no",)))
    laid = lay_out(inputs, first_frame=8, first_patch=24)
    text = [Token.TEXT, read_token("stop")]
    first = [Token.BACKGROUND, read_token("it"), read_token("is"), Token.END_BACKGROUND]
    second = [Token.BACKGROUND, read_token("no"), Token.END_BACKGROUND]
    assert laid.ids.tolist() == [8, 9, 10, 11, 24, 25, *text, *first, *second, Token.NOW]
    assert laid.kinds.tolist() == [0] * 4 + [1] * 2 + [2] * 9 + [3]


def test_unknown_written_words_are_read_as_unknown() -> None:
    laid = lay_out(Inputs(text=("xylophone",)), first_frame=0, first_patch=0)
    assert laid.ids.tolist()[4:] == [Token.TEXT, Token.UNKNOWN, Token.NOW]


@pytest.mark.parametrize(
    ("targets", "levels", "message"),
    [
        ([(), ()], levels_for(1), "one entry for each micro-turn"),
        ([()], levels_for(2), r"levels must be uint8 of shape \(4, 80\)"),
        ([()], levels_for(1).astype(np.int64), "got int64"),
        ([(int(Token.END),)], levels_for(1), "must not hold END"),
        ([(said_token("no"),) * 9], levels_for(1), "at most 8 tokens, got 9"),
        ([(int(Token.DELEGATE), heard_token("no"))], levels_for(1), "break the grammar: not_closed"),
        ([(int(Token.AUDIO),)], levels_for(1), "break the grammar: not_output"),
    ],
)
def test_a_scene_that_does_not_fit_is_refused(
    targets: list[tuple[int, ...]], levels: Bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pack([Inputs()], targets, levels)


def test_a_scene_without_micro_turns_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pack([], [], levels_for(0))


def test_a_negative_number_of_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="patches must not be negative"):
        Inputs(patches=-1)
