"""Which tile a matrix kernel uses, and which of the processor's multiply instructions it may use.

Nothing here changes bits, with one exception: `mma_class`. Tables are JSON files `kernels/tune/tables/sm_90.json`, one per
architecture:

    {"arch": 90, "mma_class": "equal",
     "tiles": {"linear": {"12288x2048": [
         {"max_rows": 16, "rows": 16, "columns": 32, "depth": 128, "warps": 4, "stages": 5},
         {"max_rows": null, "rows": 128, "columns": 256, "depth": 64, "warps": 8, "stages": 3, "loads": "tma"}]}}}

The bucket is found from the number of rows of each call, so a captured or compiled program never keeps the tile of
another batch size. Tables hold tiles of 16-bit operands; float32 always takes the kernel's own tiles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch

from microturn.kernels.gpu.compile_case import ALL_ARCHITECTURES

MmaClass = Literal["equal", "hgmma", "hmma"]
"""Which multiply instructions may serve one operator.

- `equal`: Hopper's warpgroup multiply (HGMMA) and the warp multiply (HMMA) were seen to give the same bits, or the
  processor has one of them only; a tile may have any shape.
- `hgmma`: weights are always the operand with 64 rows or more, tokens the other one, so that HGMMA serves every batch.
- `hmma`: tiles stay below 64 rows, so that HMMA serves every batch.
"""

INTERPRETER_ARCH = 90
"""The interpreter takes the tiles of an H100."""

_HGMMA_ROWS = 64


@dataclass(frozen=True)
class Tile:
    """The part of a matrix product that one program computes at a time."""

    rows: int
    """Tokens."""
    columns: int
    """Rows of the weight, i.e. outputs."""
    depth: int
    """How much of the summed dimension is loaded at a time."""
    warps: int
    stages: int
    """Loads in flight."""
    group: int = 8
    """Row tiles that are computed side by side, so that they find the weight in the cache."""
    loads: Literal["pointer", "tma"] = "pointer"

    def fits(self, mma_class: MmaClass) -> bool:
        """Whether this tile is computed by the instructions that `mma_class` allows."""
        if mma_class == "hgmma":
            return self.columns >= _HGMMA_ROWS and self.rows >= 8 and self.warps >= 4
        return mma_class == "equal" or self.rows < _HGMMA_ROWS


Buckets = Sequence[tuple[int | None, Tile]]
"""Tiles by the largest number of rows that they serve, ascending; the last one's is None."""

Defaults = Mapping[MmaClass, Buckets]


def architecture(device: torch.device) -> int:
    """Ten times the compute capability: 90 for an H100; for the CPU, where the interpreter runs, 90 too."""
    if device.type != "cuda":
        return INTERPRETER_ARCH
    return _capability(torch.cuda.current_device() if device.index is None else device.index)


@cache
def _capability(index: int) -> int:
    major, minor = torch.cuda.get_device_capability(index)
    return 10 * major + minor


def mma_class(arch: int) -> MmaClass:
    """The class that the table of this architecture names; without a table, the one that is safe.

    Before Hopper there is only HMMA. From Hopper on, one class is kept until a census on the device shows the two equal.
    """
    forced = _forced_class.get()
    if forced is not None:
        return forced
    table = _table(arch)
    return table.mma_class if table else safe_class(arch)


def safe_class(arch: int) -> MmaClass:
    """The class that needs no evidence from a device."""
    return "equal" if arch < 90 else "hgmma"


def tile_for(operator: str, rows: int, n: int, k: int, *, arch: int, defaults: Defaults) -> Tile:
    """The tile for a product of `rows` tokens with a weight (n, k).

    Args:
        operator: the kernel's name in the tables, as `linear`.
        rows: tokens of this call.
        n: outputs.
        k: length of the sum.
        arch: see `architecture`.
        defaults: the kernel's own tiles, used where the table has no entry.
    """
    return tuned_tile(operator, rows, n, k, arch=arch) or pick(defaults[mma_class(arch)], rows)


def tuned_tile(operator: str, rows: int, n: int, k: int, *, arch: int) -> Tile | None:
    """The tile that `forced_tile` or the table names, or None."""
    forced = _forced.get().get(operator)
    if forced is not None:
        return forced
    table = _table(arch)
    buckets = table.tiles.get((operator, n, k)) if table else None
    return pick(buckets, rows) if buckets else None


def pick(buckets: Buckets, rows: int) -> Tile:
    """The tile of the first bucket that serves so many rows."""
    for limit, tile in buckets:
        if limit is None or rows <= limit:
            return tile
    raise ValueError(f"the last bucket must serve any number of rows, and {buckets[-1]!r} does not")


_forced_class: ContextVar[MmaClass | None] = ContextVar("microturn_kernels_forced_class", default=None)
_forced: ContextVar[Mapping[str, Tile]] = ContextVar(
    "microturn_kernels_forced_tiles", default=MappingProxyType({})
)


@contextmanager
def forced_tile(operator: str, tile: Tile) -> Iterator[None]:
    """Use this tile for one operator inside this block, whatever the tables say; for sweeps and tests."""
    token = _forced.set({**_forced.get(), operator: tile})
    try:
        yield
    finally:
        _forced.reset(token)


@contextmanager
def forced_class(mma_class: MmaClass) -> Iterator[None]:
    """Use this class inside this block, whatever the tables say; for a census, sweeps and tests."""
    token = _forced_class.set(mma_class)
    try:
        yield
    finally:
        _forced_class.reset(token)


@dataclass(frozen=True)
class Table:
    """Tiles of one architecture."""

    arch: int
    mma_class: MmaClass
    tiles: Mapping[tuple[str, int, int], Buckets]

    def operator_tiles(self, operator: str) -> Iterator[tuple[int, int, Tile]]:
        """Every `(n, k, tile)` of one operator."""
        for (name, n, k), buckets in self.tiles.items():
            if name == operator:
                for _, tile in buckets:
                    yield n, k, tile


@cache
def _table(arch: int) -> Table | None:
    file = files("microturn.kernels.tune") / "tables" / f"sm_{arch}.json"
    return parse_table(file.read_text(), name=str(file)) if file.is_file() else None


def tables() -> tuple[Table, ...]:
    """Every table that is shipped."""
    folder = files("microturn.kernels.tune") / "tables"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".json"))
    found = (_table(int(name.removeprefix("sm_").removesuffix(".json"))) for name in names)
    return tuple(table for table in found if table is not None)


def forget_tables() -> None:
    """Read the files again at the next use."""
    _table.cache_clear()


def parse_table(text: str, *, name: str) -> Table:
    """Read one table.

    Args:
        text: JSON as shown at the top of this module.
        name: of the file, for messages.

    Raises:
        ValueError: the class is unknown, a tile breaks it, or no bucket serves large batches.
    """
    raw = json.loads(text)
    mma = raw["mma_class"]
    if mma not in get_args(MmaClass):
        raise ValueError(f"{name}: expected mma_class to be one of {get_args(MmaClass)}, got {mma!r}")
    tiles = {
        (operator, *_shape(shape)): _buckets(entries, mma, f"{name}: {operator} {shape}")
        for operator, shapes in raw["tiles"].items()
        for shape, entries in shapes.items()
    }
    return Table(raw["arch"], mma, tiles)


def _shape(text: str) -> tuple[int, int]:
    n, k = text.split("x")
    return int(n), int(k)


def _buckets(entries: Sequence[Mapping[str, Any]], mma: MmaClass, where: str) -> Buckets:
    buckets = [
        (entry["max_rows"], Tile(**{key: value for key, value in entry.items() if key != "max_rows"}))
        for entry in entries
    ]
    limits = [limit for limit, _ in buckets]
    if not limits or limits[-1] is not None or None in limits[:-1] or limits[:-1] != sorted(limits[:-1]):
        raise ValueError(f"{where}: expected max_rows to ascend and to end with null, got {limits!r}")
    for _, tile in buckets:
        if not tile.fits(mma):
            raise ValueError(f"{where}: {tile!r} is not computed by instructions of the class {mma!r}")
    return buckets


def uses_hgmma(tile: Tile, mma: MmaClass) -> bool:
    """Whether the compiler is expected to use Hopper's warpgroup multiply for 16-bit operands."""
    return mma == "hgmma" or (tile.rows >= _HGMMA_ROWS and tile.warps >= 4)


def architectures_of(mma: MmaClass, arch: int | None) -> tuple[int, ...]:
    """Where a tile is used: a table's on its own architecture, a default's wherever its class may be chosen."""
    if arch is not None:
        return (arch,)
    return ALL_ARCHITECTURES if mma == "equal" else tuple(a for a in ALL_ARCHITECTURES if a >= 90)


def tile_name(tile: Tile, mma: MmaClass) -> str:
    """Short and unique, for reports."""
    loads = " tma" if tile.loads == "tma" else ""
    return f"{tile.rows}x{tile.columns}x{tile.depth} w{tile.warps} s{tile.stages} g{tile.group}{loads} {mma}"
