"""How a micro-turn is laid out as positions of one growing sequence, for training and serving alike.

    4 x AUDIO, P x PATCH, [TEXT w w ...], [BACKGROUND w w ... END_BACKGROUND]*, NOW, output, output, ...

NOW predicts the first output token, each output token the next one, and the last of them END, which is never
appended: the next micro-turn's audio follows. A silent micro-turn is thus 5 positions, 25 a second. The hidden state
at the last position of a micro-turn is what the mouth speaks from.

Serving lays the inputs out with `lay_out`; training packs whole scenes with `pack`, which uses it too. Knows numbers
of positions, not embeddings. The layout is ours, after the micro-turns of Thinking Machines' interaction models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Words, read_emission
from microturn.interaction_model.native.vocabulary import Token, read_token, word_of

AUDIO_TOKENS = 4
"""dMel frames of a micro-turn: 200 ms of 50 ms each."""
MEL_BINS = 80
NO_TARGET = -1
"""Stands in `Packed.targets` where nothing is predicted."""
CLOCK_PERIODS = (4, 6, 9, 13, 20, 30, 45, 67, 100, 150, 225, 338, 506, 760)
"""Micro-turns in which each hand of the clock goes round: 0.8 s to two and a half minutes, each half as long again as
the one before. Our choice."""

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]


class PositionKind(IntEnum):
    """What a position holds, and thereby how its embedding is made from its id."""

    AUDIO = 0
    """A dMel frame; its id counts the frames of the session."""
    PATCH = 1
    """An image patch; its id counts the patches of the session, by frame pair, row by row."""
    TEXT = 2
    """A read word or a mark around such words; its id is a token."""
    NOW = 3
    """The question of the micro-turn; its id is `Token.NOW`, and the clock is added to its embedding."""
    OUTPUT = 4
    """An emitted token; its id is that token."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What arrives in one micro-turn beside its sound. Unknown words are read as `Token.UNKNOWN`."""

    patches: int = 0
    """P, the patches of a pair of frames; 0 if none arrived."""
    text: Words = ()
    """Typed by the user."""
    background: tuple[Words, ...] = ()
    """Results of delegations, each an item of its own."""

    def __post_init__(self) -> None:
        if self.patches < 0:
            raise ValueError(f"patches must not be negative, got {self.patches!r}")


class Positions(NamedTuple):
    """The input positions of one micro-turn."""

    kinds: Bytes
    """(T,) values of `PositionKind`; NOW is last."""
    ids: Ints
    """(T,) as `PositionKind` says."""


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A scene of N micro-turns as one sequence of T positions."""

    kinds: Bytes
    """(T,) values of `PositionKind`."""
    ids: Ints
    """(T,) as `PositionKind` says; an AUDIO id is a row of `levels`."""
    targets: Ints
    """(T,) the token that is predicted at a position, `NO_TARGET` where none is."""
    micro_turns: Ints
    """(T,) the micro-turn of a position, from 0."""
    last: Ints
    """(N,) the last position of each micro-turn."""
    levels: Bytes
    """(F, M) dMel levels from 0 to 15, four rows a micro-turn."""

    @property
    def loss_mask(self) -> npt.NDArray[np.bool_]:
        """(T,) where a token is predicted: NOW and outputs; an input is never predicted."""
        return np.not_equal(self.targets, NO_TARGET)


def lay_out(inputs: Inputs, *, first_frame: int, first_patch: int) -> Positions:
    """Lay out the inputs of one micro-turn, NOW last.

    `first_frame` and `first_patch` are the ids of its first dMel frame and of its first patch in this session.
    """
    read = list(_read_tokens(inputs))
    counts = (AUDIO_TOKENS, inputs.patches, len(read), 1)
    kinds = np.repeat(np.array(PositionKind, dtype=np.uint8)[: len(counts)], counts)
    frames = range(first_frame, first_frame + AUDIO_TOKENS)
    patches = range(first_patch, first_patch + inputs.patches)
    return Positions(kinds, np.array([*frames, *patches, *read, Token.NOW], dtype=np.int32))


def pack(inputs: Sequence[Inputs], targets: Sequence[Sequence[int]], levels: Bytes) -> Packed:
    """Pack the N micro-turns of a scene for training.

    `targets` holds the output tokens of each micro-turn without END; `levels` is (4 N, M) uint8.

    Raises:
        ValueError: the three do not fit each other, or a micro-turn's targets break the grammar.
    """
    _check_scene(inputs, targets, levels)
    kinds, ids, wanted, lengths = [], [], [], []
    first_patch = 0
    for turn, (arrived, outputs) in enumerate(zip(inputs, targets, strict=True)):
        _check_outputs(turn, outputs)
        laid = lay_out(arrived, first_frame=turn * AUDIO_TOKENS, first_patch=first_patch)
        first_patch += arrived.patches
        kinds += [laid.kinds, np.full(len(outputs), PositionKind.OUTPUT, dtype=np.uint8)]
        ids += [laid.ids, np.array(outputs, dtype=np.int32)]
        silent = np.full(len(laid.ids) - 1, NO_TARGET, dtype=np.int32)
        wanted += [silent, np.array([*outputs, Token.END], dtype=np.int32)]
        lengths.append(len(laid.ids) + len(outputs))
    return Packed(
        kinds=np.concatenate(kinds),
        ids=np.concatenate(ids),
        targets=np.concatenate(wanted),
        micro_turns=np.repeat(np.arange(len(inputs), dtype=np.int32), lengths),
        last=np.cumsum(lengths, dtype=np.int32) - 1,
        levels=levels,
    )


def unpack(packed: Packed) -> tuple[list[Inputs], list[tuple[int, ...]]]:
    """Give back the inputs and targets that were packed; unknown words come back as empty strings."""
    inputs, targets = [], []
    for turn in range(len(packed.last)):
        here = packed.micro_turns == turn
        kinds, ids = packed.kinds[here], packed.ids[here]
        text, background = _read_back(ids[kinds == PositionKind.TEXT].tolist())
        patches = int(np.count_nonzero(kinds == PositionKind.PATCH))
        inputs.append(Inputs(patches, text, background))
        targets.append(tuple(ids[kinds == PositionKind.OUTPUT].tolist()))
    return inputs, targets


def _read_tokens(inputs: Inputs) -> Iterator[int]:
    if inputs.text:
        yield Token.TEXT
        yield from map(read_token, inputs.text)
    for item in inputs.background:
        yield Token.BACKGROUND
        yield from map(read_token, item)
        yield Token.END_BACKGROUND


def _read_back(tokens: list[int]) -> tuple[Words, tuple[Words, ...]]:
    text: list[str] = []
    items: list[list[str]] = []
    for token in tokens:
        if token == Token.BACKGROUND:
            items.append([])
        elif token not in (Token.TEXT, Token.END_BACKGROUND):
            known = word_of(token)
            (items[-1] if items else text).append(known[1] if known else "")
    return tuple(text), tuple(map(tuple, items))


def _check_scene(inputs: Sequence[Inputs], targets: Sequence[Sequence[int]], levels: Bytes) -> None:
    if not inputs or len(inputs) != len(targets):
        raise ValueError(
            "inputs and targets must have one entry for each micro-turn and at least one, "
            f"got {len(inputs)} and {len(targets)}"
        )
    expected = (AUDIO_TOKENS * len(inputs), MEL_BINS)
    if levels.dtype != np.uint8 or levels.shape != expected:
        raise ValueError(f"levels must be uint8 of shape {expected}, got {levels.dtype} {levels.shape}")


def _check_outputs(turn: int, outputs: Sequence[int]) -> None:
    if Token.END in outputs:
        raise ValueError(f"targets of micro-turn {turn} must not hold END, which is added here")
    if len(outputs) > MAX_OUTPUT_TOKENS:
        raise ValueError(
            f"targets of micro-turn {turn} must be at most {MAX_OUTPUT_TOKENS} tokens, got {len(outputs)}"
        )
    if faults := read_emission(outputs).faults:
        raise ValueError(f"targets of micro-turn {turn} break the grammar: {', '.join(faults)}")
