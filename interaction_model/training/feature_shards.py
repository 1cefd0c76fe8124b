"""Scenes as a network reads them: packed positions, targets and dMel levels, in files of many scenes.

Four bits hold a level, so the sound of an hour of scenes takes 2.9 MB. Knows nothing of networks, nor of how scenes
are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.grammar import Packed
from microturn.interaction_model.training._errors import SpeechDataMissingError
from microturn.interaction_model.training.shard_folder import Arrays, Shard, ShardFolder, shard_files

_FIELDS = ("kinds", "ids", "targets", "micro_turns", "last", "levels")
"""Of `Packed`, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One scene."""

    seed: int
    task: str
    packed: Packed


def write_features(folder: ShardFolder, name: str, examples: Sequence[Example]) -> None:
    """Write the file of that name: at least one scene.

    Raises:
        ValueError: there are no scenes.
    """
    if not examples:
        raise ValueError("examples must not be empty")
    note = {
        "seeds": [example.seed for example in examples],
        "tasks": [example.task for example in examples],
    }
    folder.write(name, _arrays([example.packed for example in examples]), note)


class FeatureShards:
    """Reads the scenes of a folder; they have indices from 0."""

    def __init__(self, folder: Path) -> None:
        """Read where the scenes lie.

        Raises:
            SpeechDataMissingError: there are none.
        """
        self._shards = [Shard(file) for file in shard_files(folder)]
        if not self._shards:
            raise SpeechDataMissingError("scenes", folder)
        self._starts = [
            {field: shard.whole(f"{field}_starts") for field in _FIELDS} for shard in self._shards
        ]
        self._firsts = np.cumsum([0, *(len(starts["ids"]) - 1 for starts in self._starts)])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> Example:
        """Read a scene.

        Raises:
            IndexError: there is none of that index.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index!r}")
        at = int(np.searchsorted(self._firsts, index, side="right")) - 1
        note, place = self._shards[at].note, index - int(self._firsts[at])
        read = {field: self._part(at, field, place) for field in _FIELDS}
        read["levels"] = _unpacked(read["levels"])
        return Example(note["seeds"][place], note["tasks"][place], Packed(**read))

    def _part(self, at: int, field: str, place: int) -> npt.NDArray[Any]:
        starts = self._starts[at][field]
        return self._shards[at].part(field, int(starts[place]), int(starts[place + 1]))


def _arrays(scenes: Sequence[Packed]) -> Arrays:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for field in _FIELDS:
        parts = [getattr(scene, field) for scene in scenes]
        arrays[f"{field}_starts"] = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        whole = np.concatenate(parts)
        arrays[field] = _nibbles(whole) if field == "levels" else whole
    return arrays


def _nibbles(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Put two levels in a byte: (F, M) to (F, M / 2)."""
    return np.asarray(levels[:, ::2] << 4 | levels[:, 1::2], np.uint8)


def _unpacked(pairs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.stack((pairs >> 4, pairs & 15), axis=2).reshape(len(pairs), -1)
