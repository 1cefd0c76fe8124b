"""Batches: rows of scenes as tensors, made ready while the network computes.

A scene goes on where the one before it in its row ended, as one conversation with a longer past; a new conversation
begins only after a scene whose request still holds. Conversations begin at any time of the clock, so that nothing is
learned that holds in a first minute alone. Knows where things stand in a row, not what they are worth; losses are
`objective`'s.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microturn.interaction_model.native.config import EyesConfig
from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.flow_head import SEEN_FRAMES
from microturn.interaction_model.native.grammar import MEL_BINS, NO_TARGET, Ints, PositionKind
from microturn.interaction_model.native.speech_track import MEASURES, NEIGHBOURS
from microturn.interaction_model.native.stopwatches import packed_times
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE
from microturn.interaction_model.training.epoch import EpochPlan, Row
from microturn.interaction_model.training.mixing import STANDING
from microturn.interaction_model.training.other_ears import heard_otherwise, misheard
from microturn.interaction_model.training.other_eyes import seen_otherwise
from microturn.interaction_model.training.phonemes import heard_phonemes
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.scene_shards import MouthTargets, SceneShard, StoredScene
from microturn.interaction_model.training.sights import UNKNOWN, sights_by_position

NO_SEGMENT = -1
"""Stands in `Batch.segments` where a row holds nothing; there the kind is TEXT and the token PAD."""
NO_TASK = -1
"""Stands in `Batch.tasks` there."""
LATEST_BEGIN = 20_000
"""Conversations begin in a micro-turn before this one: in the first hour."""
_BEGINS_AT_ZERO = 4
"""One in this many conversations begins in micro-turn 0, as every session does."""


class MouthBatch(NamedTuple):
    """The micro-turns of a batch in which the assistant speaks."""

    positions: Tensor
    """(M,) int64: the last position of each, counted over all rows."""
    frames: Tensor
    """(M, 24, 48) float32, not normalised: 8 frames drawn before, and 16."""
    symbols: Tensor
    """(M, 24, NEIGHBOURS) int64"""
    measures: Tensor
    """(M, 24, MEASURES) float32"""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B rows of T positions, each with one or more scenes."""

    kinds: Tensor
    """(B, T) uint8: `PositionKind`."""
    ids: Tensor
    """(B, T) int64: a row of `levels` or of `patches`, or a token."""
    targets: Tensor
    """(B, T) int64: tokens, or `NO_TARGET`."""
    segments: Tensor
    """(B, T) int64: which conversation of the row, or `NO_SEGMENT`."""
    times: Tensor
    """(B, T, 3) int64: what the conversation's clock shows; see `stopwatches.packed_times`."""
    tasks: Tensor
    """(B, T) int64: an index into the names of tasks, or `NO_TASK`."""
    levels: Tensor
    """(A, 80) uint8: of all positions of sound, row by row."""
    patches: Tensor
    """(P, frames, patch, patch, 3) float16, normed: of all positions of patches, row by row."""
    mouth: MouthBatch
    phonemes: Tensor
    """(N,) int64: of what the user says, row by row; see `phonemes.heard_phonemes`."""
    phoneme_counts: Tensor
    """(B,) int64: how many each row has."""
    sights: Tensor
    """(B, T) int64: what is seen, at patches and at NOW, elsewhere `UNKNOWN`; see `sights.SightHead`."""
    scenes: int

    @property
    def audio_s(self) -> float:
        """Seconds of sound."""
        return len(self.levels) / 4 * MICRO_TURN_MS / 1000

    @property
    def seen(self) -> int:
        """Pairs of camera frames of which it is known what they show."""
        return int(((self.kinds == PositionKind.NOW) & (self.sights != UNKNOWN)).sum())

    @property
    def used(self) -> int:
        """Positions that hold something."""
        return int((self.segments != NO_SEGMENT).sum())

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        moved = {
            each.name: value.to(device, non_blocking=True)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        mouth = MouthBatch(*(part.to(device, non_blocking=True) for part in self.mouth))
        return replace(self, mouth=mouth, **moved)  # type: ignore[arg-type]  # all others are tensors


class Collator:
    """Reads rows of scenes and makes batches of them.

    Args:
        shards: where scenes lie.
        tasks: names of tasks; their places are the numbers in `Batch.tasks`.
        row_tokens: T.
        eyes: how patches are cut.
    """

    def __init__(
        self, shards: Sequence[SceneShard], tasks: Sequence[str], row_tokens: int, eyes: EyesConfig
    ) -> None:
        self._shards = shards
        self._tasks = {task: number for number, task in enumerate(tasks)}
        self.row_tokens = row_tokens
        self._eyes = eyes

    def __call__(self, rows: Sequence[Row], random: np.random.Generator | None = None) -> Batch:
        """Make one batch; with `random` each scene is as other ears and eyes would perceive it.

        Raises:
            BadShardError: a shard cannot be read.
        """
        canvas = _Canvas(len(rows), self.row_tokens, self._eyes)
        for number, row in enumerate(rows):
            here = _Here(number)
            for ref in row:
                scene = self._shards[ref.shard].scene(ref.number)
                scene = _as_others_perceive_it(scene, random) if random else scene
                here = canvas.put(here, scene, self._tasks[scene.task])
        return canvas.batch(sum(map(len, rows)))


def steps_of(
    plan: EpochPlan, collate: Collator, rows: int, accumulate: int, first_step: int
) -> Iterator[list[Batch]]:
    """Yield the micro-batches of each step without end, from a step on; each is a function of plan and step."""
    step = first_step
    while True:
        drawn = plan.rows(step * rows * accumulate, rows * accumulate)
        random = np.random.default_rng([plan.seed, step])
        yield [collate(drawn[begin : begin + rows], random) for begin in range(0, len(drawn), rows)]
        step += 1


def _as_others_perceive_it(scene: StoredScene, random: np.random.Generator) -> StoredScene:
    packed = scene.packed
    levels = heard_otherwise(packed.levels, random)
    heard = replace(packed, levels=levels, ids=misheard(packed.kinds, packed.ids, random))
    return replace(scene, packed=heard, films=seen_otherwise(scene.films, random))


@dataclass(frozen=True, slots=True)
class _Here:
    """How far a row is written."""

    row: int
    place: int = 0
    segment: int = NO_SEGMENT
    turn: int = 0
    """The next micro-turn of its last conversation."""
    is_over: bool = True
    """Whether nothing can follow in that conversation."""

    def beginning(self, scene: StoredScene) -> _Here:
        """Where the scene is written: in the same conversation, or in a new one."""
        if not self.is_over:
            return self
        drawn = zlib.crc32(f"{scene.task}/{scene.seed}".encode())
        turn = 0 if drawn % _BEGINS_AT_ZERO == 0 else drawn % LATEST_BEGIN
        return replace(self, segment=self.segment + 1, turn=turn)


class _Canvas:
    """A batch being written."""

    def __init__(self, rows: int, tokens: int, eyes: EyesConfig) -> None:
        shape = (rows, tokens)
        self._tokens = tokens
        self._eyes = eyes
        self._kinds = np.full(shape, int(PositionKind.TEXT), np.uint8)
        self._ids = np.full(shape, int(Token.PAD), np.int64)
        self._targets = np.full(shape, NO_TARGET, np.int64)
        self._segments = np.full(shape, NO_SEGMENT, np.int64)
        self._micro_turns = np.zeros(shape, np.int64)
        self._tasks = np.full(shape, NO_TASK, np.int64)
        self._levels: list[npt.NDArray[np.uint8]] = [np.zeros((0, MEL_BINS), np.uint8)]
        self._patches: list[Tensor] = [
            torch.zeros(0, eyes.frames, eyes.patch, eyes.patch, 3, dtype=torch.float16)
        ]
        self._mouth: list[MouthBatch] = [_no_mouth()]
        self._phonemes: list[list[int]] = [[] for _ in range(rows)]
        self._sights = np.full(shape, UNKNOWN, np.int64)

    def put(self, at: _Here, scene: StoredScene, task: int) -> _Here:
        """Write a scene, or as many of its whole micro-turns as there is room for; return what is behind it."""
        packed = scene.packed
        turns = int(np.searchsorted(packed.last, self._tokens - at.place))
        if not turns:
            return at
        at = at.beginning(scene)
        used = int(packed.last[turns - 1]) + 1
        here = (at.row, slice(at.place, at.place + used))
        kinds = packed.kinds[:used]
        self._kinds[here] = kinds
        self._ids[here] = packed.ids[:used]
        self._ids[here][kinds == PositionKind.AUDIO] += sum(map(len, self._levels))
        self._ids[here][kinds == PositionKind.PATCH] += sum(map(len, self._patches))
        self._targets[here] = packed.targets[:used]
        self._segments[here] = at.segment
        self._micro_turns[here] = packed.micro_turns[:used] + at.turn
        self._tasks[here] = task
        self._phonemes[at.row] += heard_phonemes(packed.targets[:used])
        seen = {turn: sights for turn, sights in scene.sights.items() if turn < turns}
        self._sights[here] = sights_by_position(seen, kinds)
        self._levels.append(packed.levels[: np.count_nonzero(kinds == PositionKind.AUDIO)])
        self._patches += [
            cut_patches(pixels, self._eyes).half() for turn, pixels in scene.films.items() if turn < turns
        ]
        if scene.mouth is not None:
            self._mouth.append(_spoken(scene.mouth, packed.last, turns, at.row * self._tokens + at.place))
        is_over = scene.task in STANDING
        return replace(at, place=at.place + used, turn=at.turn + turns, is_over=is_over)

    def batch(self, scenes: int) -> Batch:
        """Give out what was written."""
        times = packed_times(self._kinds, self._ids, self._micro_turns, self._segments)
        return Batch(
            kinds=torch.from_numpy(self._kinds),
            ids=torch.from_numpy(self._ids),
            targets=torch.from_numpy(self._targets),
            segments=torch.from_numpy(self._segments),
            times=torch.from_numpy(times),
            tasks=torch.from_numpy(self._tasks),
            levels=torch.from_numpy(np.concatenate(self._levels)),
            patches=torch.cat(self._patches),
            mouth=MouthBatch(*(torch.cat(parts) for parts in zip(*self._mouth, strict=True))),
            phonemes=torch.tensor([each for row in self._phonemes for each in row], dtype=torch.int64),
            phoneme_counts=torch.tensor([len(row) for row in self._phonemes]),
            sights=torch.from_numpy(self._sights),
            scenes=scenes,
        )


def _spoken(mouth: MouthTargets, last: Ints, turns: int, begin: int) -> MouthBatch:
    """Those of the first `turns` micro-turns, in a scene that begins at a position."""
    kept = mouth.turns < turns
    return MouthBatch(
        torch.from_numpy(last[mouth.turns[kept]].astype(np.int64) + begin),
        torch.from_numpy(mouth.frames[kept].astype(np.float32)),
        torch.from_numpy(mouth.symbols[kept].astype(np.int64)),
        torch.from_numpy(mouth.measures[kept].astype(np.float32)),
    )


def _no_mouth() -> MouthBatch:
    return MouthBatch(
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, SEEN_FRAMES, FRAME_SIZE),
        torch.zeros(0, SEEN_FRAMES, NEIGHBOURS, dtype=torch.int64),
        torch.zeros(0, SEEN_FRAMES, MEASURES),
    )
