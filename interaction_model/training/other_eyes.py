"""The same film as another camera would see it: changed a little, another way each time that it is learned from.

Each change is the same for a whole scene: light and contrast, a cast of colour, soft spots of shadow that stay where
they are, and grain that differs from frame to frame. What stands where, and what it is called, stays. The ranges are our
choice: no shade of the training films comes nearer to another colour than to its own by light and cast alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.training.scene import Pixels

UNCHANGED_SHARE = 0.25
GAIN_RANGE = (0.9, 1.08)
"""Of all channels."""
CAST_RANGE = (0.96, 1.04)
"""Of each channel, beside it."""
OFFSET_RANGE = (-8.0, 8.0)
"""Levels, of 255."""
GRAINY_SHARE = 0.5
STRONGEST_GRAIN = 6.0
"""Standard deviation in levels."""
SPOTTED_SHARE = 0.5
DARKEST_SPOT = 16.0
"""Levels by which a spot is darker or lighter, at most."""
SPOT_RANGE = (4.0, 40.0)
"""Pixels from spot to spot."""


def seen_otherwise(films: Mapping[int, Pixels], random: np.random.Generator) -> dict[int, Pixels]:
    """Change the pairs `(2, H, W, 3)` of a scene by what is drawn; the given ones stay as they are."""
    if not films or random.random() < UNCHANGED_SHARE:
        return dict(films)
    table, shape = _table(random), next(iter(films.values())).shape
    grain = _grain(random, shape) if random.random() < GRAINY_SHARE else None
    spots = _spots(random, shape) if random.random() < SPOTTED_SHARE else None
    return {turn: _changed(pixels, table, spots, grain, random) for turn, pixels in films.items()}


def _table(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """`(3, 256)`: what each level of each channel becomes."""
    gains = random.uniform(*GAIN_RANGE) * random.uniform(*CAST_RANGE, 3)
    levels = gains[:, None] * np.arange(256) + random.uniform(*OFFSET_RANGE)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def _grain(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """Twice as high and wide as a frame, so that every frame shows another part."""
    _, height, width, channels = shape
    drawn = random.standard_normal((2 * height, 2 * width, channels), dtype=np.float32)
    grain: npt.NDArray[np.int16] = np.rint(random.uniform(0, STRONGEST_GRAIN) * drawn).astype(np.int16)
    return grain


def _spots(random: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """`(H, W, 1)` levels, from spot to spot by straight lines."""
    _, height, width, _ = shape
    apart = random.uniform(*SPOT_RANGE)
    down, across = (_tents(side, apart) for side in (height, width))
    drawn = random.uniform(-1, 1, (down.shape[1], across.shape[1]))
    levels = random.uniform(0, DARKEST_SPOT) * (down @ drawn @ across.T)
    spots: npt.NDArray[np.int16] = np.rint(levels).astype(np.int16)
    return spots[..., None]


def _tents(side: int, apart: float) -> npt.NDArray[np.float64]:
    """`(side, N)`: how much of each of N spots, which are so many pixels apart, is at each place."""
    places = np.arange(side) / apart
    return np.maximum(0.0, 1.0 - np.abs(places[:, None] - np.arange(int(places[-1]) + 2)))


def _changed(
    pixels: Pixels,
    table: npt.NDArray[np.uint8],
    spots: npt.NDArray[np.int16] | None,
    grain: npt.NDArray[np.int16] | None,
    random: np.random.Generator,
) -> Pixels:
    changed = np.stack([table[channel][pixels[..., channel]] for channel in range(len(table))], axis=-1)
    if spots is None and grain is None:
        return changed
    height, width = pixels.shape[1:3]
    levels = changed.astype(np.int16) if spots is None else changed + spots
    if grain is not None:
        for frame in levels:
            top, left = random.integers(0, height + 1), random.integers(0, width + 1)
            frame += grain[top : top + height, left : left + width]
    return levels.clip(0, 255).astype(np.uint8)
