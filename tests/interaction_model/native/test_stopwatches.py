"""Stopwatches show the same in training, where rows are whole, and in serving, micro-turn by micro-turn."""

from __future__ import annotations

import numpy as np
import pytest

from microturn.interaction_model.native.grammar import Inputs, Packed, PositionKind, pack
from microturn.interaction_model.native.stopwatches import NEVER, Stopwatches, Times, packed_times
from microturn.interaction_model.native.vocabulary import Token, heard_token, said_token

pytestmark = pytest.mark.unit

OUTPUTS: tuple[tuple[int, ...], ...] = (
    (),
    (heard_token("stop"),),
    (said_token("okay"), said_token("now")),
    (Token.DELEGATE, heard_token("weather"), Token.END_DELEGATE),
    (Token.BACKCHANNEL,),
    (heard_token("yes"), Token.HUSH, said_token("no")),
)
INPUTS = (Inputs(), Inputs(), Inputs(text=("hello", "")), Inputs(background=(("sunny",),)), Inputs(patches=2))


def drawn(seed: int, turns: int) -> Packed:
    rng = np.random.default_rng(seed)
    return pack(
        [INPUTS[n] for n in rng.integers(len(INPUTS), size=turns)],
        [OUTPUTS[n] for n in rng.choice(len(OUTPUTS), size=turns, p=[0.5, 0.1, 0.1, 0.1, 0.1, 0.1])],
        np.zeros((4 * turns, 80), np.uint8),
    )


def shown_one_by_one(packed: Packed) -> list[Times]:
    """What a session would be shown at each query."""
    stopwatches, shown = Stopwatches(), []
    for turn in range(len(packed.last)):
        here = packed.micro_turns == turn
        kinds, ids = packed.kinds[here], packed.ids[here]
        typed = ids[(kinds == PositionKind.TEXT) & (ids == Token.TEXT)].tolist()
        stopwatches = stopwatches.reading(turn, ["word"] * len(typed))
        shown.append(stopwatches.times(turn))
        stopwatches = stopwatches.after(turn, ids[kinds == PositionKind.OUTPUT].tolist())
    return shown


def test_nothing_is_shown_before_anything_was_said() -> None:
    assert Stopwatches().times(7) == (7, NEVER, NEVER)


def test_words_start_the_stopwatch_of_who_said_them() -> None:
    began = Stopwatches().reading(2, ("hello",))
    assert began.times(2) == (2, 0, NEVER)
    later = began.after(2, [said_token("hello")])
    assert later.times(5) == (5, 3, 3)
    assert later.after(4, [heard_token("stop")]).times(5) == (5, 1, 3)
    assert later.after(4, [Token.BACKCHANNEL, Token.HUSH, Token.CANCEL]) == later
    assert later.reading(4, ()) == later


@pytest.mark.parametrize("seed", range(5))
def test_rows_show_what_a_session_is_shown(seed: int) -> None:
    packed = drawn(seed, 80)
    times = packed_times(packed.kinds, packed.ids, packed.micro_turns, np.zeros_like(packed.ids))
    queries = times[packed.kinds == PositionKind.NOW]
    assert [tuple(row) for row in queries.tolist()] == shown_one_by_one(packed)


def test_a_new_conversation_of_a_row_knows_nothing_of_the_one_before() -> None:
    first, second = drawn(1, 40), drawn(2, 30)
    row = {
        "kinds": np.concatenate([first.kinds, second.kinds]),
        "ids": np.concatenate([first.ids, second.ids]),
        "micro_turns": np.concatenate([first.micro_turns, second.micro_turns + 1000]),
        "segments": np.repeat([0, 1], [len(first.kinds), len(second.kinds)]),
    }
    times = packed_times(**{name: part[None] for name, part in row.items()})[0]
    queries = times[row["kinds"] == PositionKind.NOW]
    apart = [(1000 + turn, *since) for turn, *since in shown_one_by_one(second)]
    assert [tuple(each) for each in queries.tolist()] == shown_one_by_one(first) + apart
