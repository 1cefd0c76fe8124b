"""Scenes as a trainer reads them: packed positions, camera frames and the mouth's targets, memory-mapped.

A shard is a folder with one file of arrays, in which scenes lie one after the other, and an index. It is written beside
its place and moved there when it is whole. Knows nothing of networks or of how scenes were made.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.flow_head import SEEN_FRAMES
from microturn.interaction_model.native.grammar import AUDIO_TOKENS, MEL_BINS, Packed
from microturn.interaction_model.native.speech_track import MEASURES, NEIGHBOURS
from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE
from microturn.interaction_model.training._errors import BadShardError
from microturn.interaction_model.training.scene import Pixels, Split
from microturn.interaction_model.training.sights import Sights

FORMAT = 2
READABLE = (1, FORMAT)
"""In format 1 no scene knows what is seen in its film; its arrays are the same up to there."""
_INDEX = "index.json"
_ARRAYS = "arrays.bin"


class _Column(NamedTuple):
    """One array of a shard."""

    dtype: type[np.generic]
    counted_by: str
    """The field of `SceneEntry` that says how many rows a scene has."""
    row: tuple[int, ...] = ()
    """Shape of a row."""


_COLUMNS: Mapping[str, _Column] = {
    "kinds": _Column(np.uint8, "tokens"),
    "ids": _Column(np.int32, "tokens"),
    "targets": _Column(np.int32, "tokens"),
    "micro_turns": _Column(np.int32, "tokens"),
    "last": _Column(np.int32, "micro_turns"),
    "levels": _Column(np.uint8, "micro_turns", (AUDIO_TOKENS, MEL_BINS)),
    "film": _Column(np.uint8, "film_bytes"),
    "film_lengths": _Column(np.int32, "pairs"),
    "film_turns": _Column(np.int32, "pairs"),
    "mouth_turns": _Column(np.int32, "spoken"),
    "mouth_frames": _Column(np.float16, "spoken", (SEEN_FRAMES, FRAME_SIZE)),
    "mouth_symbols": _Column(np.uint8, "spoken", (SEEN_FRAMES, NEIGHBOURS)),
    "mouth_measures": _Column(np.float16, "spoken", (SEEN_FRAMES, MEASURES)),
    "sight_things": _Column(np.uint8, "seen_patches"),
    "sight_movements": _Column(np.uint8, "seen"),
}
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class MouthTargets:
    """What the mouth should draw in the M micro-turns of a scene in which the assistant speaks."""

    turns: npt.NDArray[np.int32]
    """(M,) the micro-turn of each, in order."""
    frames: npt.NDArray[np.float16]
    """(M, 24, 48): the 8 frames drawn before, and the 16 of this micro-turn; not normalised."""
    symbols: npt.NDArray[np.uint8]
    """(M, 24, NEIGHBOURS)"""
    measures: npt.NDArray[np.float16]
    """(M, 24, MEASURES)"""


@dataclass(frozen=True, slots=True, eq=False)
class StoredScene:
    """One scene with all that is learned from it."""

    task: str
    split: Split
    seed: int
    packed: Packed
    films: Mapping[int, Pixels]
    """Of each micro-turn with patches its pair of frames, (2, H, W, 3) uint8."""
    mouth: MouthTargets | None = None
    """None if the assistant says nothing, or is not to be heard."""
    sights: Mapping[int, Sights] = field(default_factory=dict)
    """What each pair in `films` shows; empty if that is not known."""


@dataclass(frozen=True, slots=True)
class SceneEntry:
    """What the index says of a scene."""

    task: str
    split: Split
    seed: int
    tokens: int
    """T"""
    micro_turns: int
    """N"""
    pairs: int = 0
    """Of camera frames."""
    film_bytes: int = 0
    frame_size: tuple[int, int] = (0, 0)
    """Height and width in pixels; (0, 0) without a film."""
    spoken: int = 0
    """M, micro-turns in which the assistant speaks."""
    seen: int = 0
    """Pairs of which it is known what they show: all or none."""
    seen_patches: int = 0
    """Patches of these."""


class SceneShard:
    """A shard on disk. Its file is mapped when a scene is first read; reading may be done in any thread."""

    def __init__(self, folder: Path) -> None:
        """Read the index.

        Raises:
            BadShardError: it is broken, or of another format or vocabulary.
        """
        self.folder = folder
        self.entries = _read_index(folder)

    def __len__(self) -> int:
        return len(self.entries)

    def scene(self, number: int) -> StoredScene:
        """Read one scene; its arrays may be views of the file, which cannot be written.

        Raises:
            BadShardError: the file of arrays is missing or has another length than the index says.
        """
        entry = self.entries[number]
        read = {name: self._rows(name, number) for name in _COLUMNS}
        levels = read["levels"].reshape(-1, MEL_BINS)
        packed = Packed(
            kinds=read["kinds"],
            ids=read["ids"],
            targets=read["targets"],
            micro_turns=read["micro_turns"],
            last=read["last"],
            levels=levels,
        )
        mouth = MouthTargets(*(read[f"mouth_{field}"] for field in _MOUTH_FIELDS)) if entry.spoken else None
        films, sights = _films(entry, read), _sights(entry, read)
        return StoredScene(entry.task, entry.split, entry.seed, packed, films, mouth, sights)

    def targets(self, number: int) -> npt.NDArray[np.int32]:
        """Read the targets of one scene alone, (T,).

        Raises:
            BadShardError: as `scene`.
        """
        return self._rows("targets", number)

    def _rows(self, name: str, number: int) -> npt.NDArray[Any]:
        column = _COLUMNS[name]
        begin = self._starts[column.counted_by][number]
        return self._arrays[name][begin : begin + getattr(self.entries[number], column.counted_by)]

    @cached_property
    def _starts(self) -> dict[str, list[int]]:
        return {
            count: np.cumsum([0, *(getattr(e, count) for e in self.entries)]).tolist() for count in _COUNTS
        }

    @cached_property
    def _arrays(self) -> Arrays:
        try:
            # One mapping for all arrays: each holds a file open.
            whole = np.memmap(self.folder / _ARRAYS, mode="r")
        except (OSError, ValueError) as error:
            raise BadShardError(self.folder, expected="a file of arrays", got=type(error).__name__) from error
        arrays, place = {}, 0
        for name, column in _COLUMNS.items():
            shape = (self._starts[column.counted_by][-1], *column.row)
            size = int(np.prod(shape)) * np.dtype(column.dtype).itemsize
            arrays[name] = _view(whole[place : place + size], column, shape, self.folder)
            place += _padded(size)
        return arrays


def write_shard(folder: Path, name: str, scenes: Iterable[StoredScene]) -> Path:
    """Write a shard of at least one scene; all of them are held in memory until then.

    Returns:
        `folder / name`, which appears when it is whole. A shard of that name is replaced.

    Raises:
        ValueError: there are no scenes, or the frames of a film are not of one size.
    """
    parts = [(_entry(scene), _arrays_of(scene)) for scene in scenes]
    if not parts:
        raise ValueError("scenes must not be empty")
    beside = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    columns = (np.concatenate([arrays[key] for _, arrays in parts]) for key in _COLUMNS)
    pieces = (
        np.ascontiguousarray(array, dtype=column.dtype).tobytes()
        for array, column in zip(columns, _COLUMNS.values(), strict=True)
    )
    _write(beside / _ARRAYS, (piece.ljust(_padded(len(piece)), b"\0") for piece in pieces))
    entries = [{**asdict(entry), "film_bytes": int(arrays["film"].size)} for entry, arrays in parts]
    index = {"format": FORMAT, "vocabulary": FINGERPRINT, "scenes": entries}
    _write(beside / _INDEX, [json.dumps(index).encode()])
    shutil.rmtree(folder / name, ignore_errors=True)
    return beside.rename(folder / name)


def open_shards(folder: Path) -> list[SceneShard]:
    """Open all shards in and below a folder, in the order of their paths.

    Raises:
        BadShardError: one of them is broken.
    """
    indices = sorted(folder.rglob(_INDEX))
    return [SceneShard(path.parent) for path in indices if not path.parent.name.startswith(".")]


_MOUTH_FIELDS = ("turns", "frames", "symbols", "measures")
_COUNTS = tuple(dict.fromkeys(column.counted_by for column in _COLUMNS.values()))
_ALIGNMENT = 64


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _view(
    raw: npt.NDArray[np.uint8], column: _Column, shape: tuple[int, ...], folder: Path
) -> npt.NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(column.dtype).itemsize
    if len(raw) != size:
        raise BadShardError(folder, expected=f"{size} bytes of {column.counted_by}", got=f"{len(raw)}")
    return np.asarray(raw.view(column.dtype).reshape(shape))


def _films(entry: SceneEntry, read: Arrays) -> dict[int, Pixels]:
    bounds = np.cumsum([0, *read["film_lengths"].tolist()]).tolist()
    pressed = read["film"].tobytes()
    shape = (2, *entry.frame_size, 3)
    return {
        turn: np.frombuffer(zlib.decompress(pressed[begin:end]), np.uint8).reshape(shape)
        for turn, (begin, end) in zip(read["film_turns"].tolist(), pairwise(bounds), strict=True)
    }


def _sights(entry: SceneEntry, read: Arrays) -> dict[int, Sights]:
    if not entry.seen:
        return {}
    things = read["sight_things"].reshape(entry.seen, -1)
    rows = zip(read["film_turns"].tolist(), things, read["sight_movements"].tolist(), strict=True)
    return {turn: Sights(here, movement) for turn, here, movement in rows}


def _read_index(folder: Path) -> tuple[SceneEntry, ...]:
    try:
        index = json.loads((folder / _INDEX).read_text())
        found = (index["format"], index["vocabulary"])
        entries = tuple(
            SceneEntry(**{**each, "frame_size": tuple(each["frame_size"])}) for each in index["scenes"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadShardError(folder, expected="an index of scenes", got=type(error).__name__) from error
    if found not in [(each, FINGERPRINT) for each in READABLE]:
        expected = f"a format of {READABLE} with the vocabulary {FINGERPRINT[:12]!r}"
        raise BadShardError(folder, expected=expected, got=f"{found[0]!r} with {str(found[1])[:12]!r}")
    return entries


def _entry(scene: StoredScene) -> SceneEntry:
    sizes = {pixels.shape[1:3] for pixels in scene.films.values()}
    if len(sizes) > 1:
        raise ValueError(f"films of a scene must have one size, got {sorted(sizes)}")
    if scene.sights and scene.sights.keys() != scene.films.keys():
        raise ValueError(
            f"sights must be of all {len(scene.films)} films or of none, got {len(scene.sights)}"
        )
    height, width = sizes.pop() if sizes else (0, 0)
    return SceneEntry(
        task=scene.task,
        split=scene.split,
        seed=scene.seed,
        tokens=len(scene.packed.kinds),
        micro_turns=len(scene.packed.last),
        pairs=len(scene.films),
        frame_size=(int(height), int(width)),
        spoken=0 if scene.mouth is None else len(scene.mouth.turns),
        seen=len(scene.sights),
        seen_patches=sum(len(each.things) for each in scene.sights.values()),
    )


def _arrays_of(scene: StoredScene) -> Arrays:
    packed, turns, seen = scene.packed, sorted(scene.films), sorted(scene.sights)
    films = [zlib.compress(scene.films[turn].tobytes(), 1) for turn in turns]
    return {
        **{key: getattr(packed, key) for key in ("kinds", "ids", "targets", "micro_turns", "last")},
        "levels": packed.levels.reshape(-1, AUDIO_TOKENS, MEL_BINS),
        "film": np.frombuffer(b"".join(films), np.uint8),
        "film_lengths": np.array([len(film) for film in films], np.int32),
        "film_turns": np.array(turns, np.int32),
        **{f"mouth_{key}": getattr(scene.mouth or _NO_MOUTH, key) for key in _MOUTH_FIELDS},
        "sight_things": np.concatenate(
            [np.zeros(0, np.uint8), *(scene.sights[turn].things for turn in seen)]
        ),
        "sight_movements": np.array([scene.sights[turn].movement for turn in seen], np.uint8),
    }


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


_NO_MOUTH = MouthTargets(
    turns=np.zeros(0, np.int32),
    frames=np.zeros((0, SEEN_FRAMES, FRAME_SIZE), np.float16),
    symbols=np.zeros((0, SEEN_FRAMES, NEIGHBOURS), np.uint8),
    measures=np.zeros((0, SEEN_FRAMES, MEASURES), np.float16),
)
