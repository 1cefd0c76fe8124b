"""Which scenes make up which row of which step: a function of the data, the seed and the step alone.

In an epoch every scene comes as often as its task's weight says; the order is drawn anew for each epoch. Scenes are
put into rows as they come, each into the first of the open rows that has room, so that little is wasted.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from microturn.interaction_model.training.scene_shards import SceneEntry, SceneShard

OPEN_ROWS = 32
"""Rows among which a scene finds its place; more waste less room and mix worse. Our choice."""
HELD_OUT_SHARE = 32
"""One in this many training scenes, by a hash of task and seed, is kept for choosing between states."""


class SceneRef(NamedTuple):
    """Where a scene lies."""

    shard: int
    number: int


Row = tuple[SceneRef, ...]


def is_held_out(entry: SceneEntry) -> bool:
    """Whether a scene of the training data is kept out of training. Test data are for the end alone."""
    return zlib.crc32(f"{entry.task}/{entry.seed}".encode()) % HELD_OUT_SHARE == 0


def training_scenes(shards: Sequence[SceneShard]) -> dict[SceneRef, SceneEntry]:
    """The scenes that are trained on, in the order of shards."""
    return {ref: entry for ref, entry in all_scenes(shards).items() if not is_held_out(entry)}


def held_out_scenes(shards: Sequence[SceneShard]) -> dict[SceneRef, SceneEntry]:
    """The scenes that are not."""
    return {ref: entry for ref, entry in all_scenes(shards).items() if is_held_out(entry)}


def all_scenes(shards: Sequence[SceneShard]) -> dict[SceneRef, SceneEntry]:
    """All scenes, in the order of shards."""
    return {
        SceneRef(place, number): entry
        for place, shard in enumerate(shards)
        for number, entry in enumerate(shard.entries)
    }


def data_fingerprint(scenes: Mapping[SceneRef, SceneEntry]) -> str:
    """SHA-256 of what decides the order of the data."""
    lines = (
        f"{ref.shard};{ref.number};{entry.task};{entry.seed};{entry.tokens}" for ref, entry in scenes.items()
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class EpochPlan:
    """The rows of all epochs.

    Args:
        scenes: what is trained on.
        row_tokens: T; a longer scene has a row of its own, and only its beginning is used.
        weights: how often each scene of a task comes in an epoch; 1 for tasks that are not named.
        seed: of the order.
    """

    def __init__(
        self, scenes: Mapping[SceneRef, SceneEntry], row_tokens: int, weights: Mapping[str, float], seed: int
    ) -> None:
        self._times = {ref: weights.get(entry.task, 1.0) for ref, entry in scenes.items()}
        if not any(times > 0 for times in self._times.values()):
            raise ValueError("scenes must hold at least one with a weight above 0")
        self._scenes = scenes
        self._row_tokens = row_tokens
        self.seed = seed
        self._lengths: list[int] = []
        self._newest: tuple[int, list[Row]] = (-1, [])

    def rows(self, first: int, count: int) -> list[Row]:
        """Return `count` rows from row number `first` on, counted over all epochs."""
        found: list[Row] = []
        number, begin = 0, 0
        while len(found) < count:
            if number == len(self._lengths):
                self._lengths.append(len(self.epoch(number)))
            place, length = first + len(found) - begin, self._lengths[number]
            if place < length:
                found += self.epoch(number)[place : place + count - len(found)]
            begin += length
            number += 1
        return found

    def epoch(self, number: int) -> list[Row]:
        """Return the rows of an epoch, counted from 0."""
        if self._newest[0] != number:
            self._newest = (number, self._drawn(number))
        return self._newest[1]

    def _drawn(self, number: int) -> list[Row]:
        rng = np.random.default_rng([self.seed, number])
        chances = rng.random(len(self._times))
        drawn = [
            ref
            for (ref, times), chance in zip(self._times.items(), chances, strict=True)
            for _ in range(int(times) + int(chance < times - int(times)))
        ]
        # Where all weights are small, chance may leave out every scene.
        drawn = drawn or [max(self._times, key=self._times.__getitem__)]
        rows = self._packed([drawn[place] for place in rng.permutation(len(drawn))])
        # Rows that close early are those that are full; shuffled once more, no part of an epoch is of one kind.
        return [rows[place] for place in rng.permutation(len(rows))]

    def _packed(self, order: Sequence[SceneRef]) -> list[Row]:
        full: list[Row] = []
        opened: list[tuple[int, list[SceneRef]]] = []
        for ref in order:
            needed = min(self._scenes[ref].tokens, self._row_tokens)
            at = next((i for i, (room, _) in enumerate(opened) if room >= needed), None)
            if at is None:
                if len(opened) == OPEN_ROWS:
                    fullest = min(range(OPEN_ROWS), key=lambda i: opened[i][0])
                    full.append(tuple(opened.pop(fullest)[1]))
                opened.append((self._row_tokens - needed, [ref]))
            else:
                room, refs = opened[at]
                opened[at] = (room - needed, [*refs, ref])
        return full + [tuple(refs) for _, refs in opened]
