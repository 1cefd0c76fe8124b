"""The tiles that a sweep tries for a number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from microturn.kernels.gpu.lm_head import VOCABULARY_BLOCK
from microturn.kernels.gpu.tuning import MmaClass, Tile

SHARED_MEMORY_BYTES = 232_448
"""What one program may use on an H100."""

BUCKETS = (1, 16, 32, 64, 128, 256, 512, 1024, None)
"""Upper ends of the ranges of rows that get a tile of their own; None stands for all larger ones. Our choice."""
LARGEST_TIMED = 2048
"""Rows at which the last bucket is timed."""

_SMALL = tuple(product((16,), (16, 32, 64, 128), (64, 128, 256), (4,), (3, 4, 5, 6)))
_MIDDLE = tuple(product((16, 32, 64), (32, 64, 128), (64, 128), (4,), (3, 4)))
_HEAD = tuple(product((16, 32, 64, 128), (VOCABULARY_BLOCK,), (64, 128), (4, 8), (3, 4, 5)))
_LARGE = tuple(product((64, 128), (64, 128, 256), (64,), (4, 8), (3, 4)))


def candidates(operator: str, rows: int, mma: MmaClass) -> Iterator[Tile]:
    """At most about forty tiles for a product with so many rows, the likeliest first.

    Args:
        operator: `linear` or `lm_head`.
        rows: tokens of the call.
        mma: the class of instructions that the tiles must belong to.
    """
    sizes = _HEAD if operator == "lm_head" else _linear_sizes(rows, mma)
    has_tma = rows > 64 and operator == "linear"
    for height, columns, depth, warps, stages in sizes:
        for loads in ("pointer", "tma") if has_tma else ("pointer",):
            tile = Tile(height, columns, depth, warps, stages, loads="tma" if loads == "tma" else "pointer")
            if tile.fits(mma) and _shared_bytes(tile) <= SHARED_MEMORY_BYTES and not _is_lopsided(tile):
                yield tile


def _linear_sizes(rows: int, mma: MmaClass) -> Sequence[tuple[int, int, int, int, int]]:
    if rows <= 16:
        return _SMALL
    # Tiles of 64 rows and more would use the instruction that this class excludes.
    return _MIDDLE if rows <= 64 or mma == "hmma" else _LARGE


def _shared_bytes(tile: Tile) -> int:
    """Shared memory of the loads in flight, 2 bytes per number, and of the result's tile under TMA."""
    loads = 2 * (tile.rows + tile.columns) * tile.depth * tile.stages
    return loads + (2 * tile.rows * tile.columns if tile.loads == "tma" else 0)


def _is_lopsided(tile: Tile) -> bool:
    """Whether four warps would hold more accumulator than registers, or eight have too little to do."""
    per_warp = tile.rows * tile.columns / tile.warps
    return per_warp > 4096 or (tile.warps == 8 and per_warp < 1024)


EXPERT_HEIGHTS = (16, 32, 64, 128)
"""Pairs of tokens and experts per block."""


def expert_candidates(tokens: int, mma: MmaClass, *, gates: int) -> dict[int, list[Tile]]:
    """Tiles for one product of a mixture of experts by their height, the likeliest first.

    Args:
        tokens: of the call; few tokens never fill a high block.
        mma: the class of instructions that the tiles must belong to.
        gates: 2 for the product that computes gate and up side by side, 1 for the other.
    """
    found: dict[int, list[Tile]] = {}
    for height in EXPERT_HEIGHTS:
        if height > 16 and tokens <= 8:
            continue
        sizes = product((32, 64, 128, 256), (64, 128), (4, 8), (3, 4, 5))
        for columns, depth, warps, stages in sizes:
            tile = Tile(height, columns, depth, warps, stages)
            shared = 2 * (height + gates * columns) * depth * stages
            per_warp = height * columns * gates / warps
            if tile.fits(mma) and shared <= SHARED_MEMORY_BYTES and 128 <= per_warp <= 4096:
                found.setdefault(height, []).append(tile)
    return found
