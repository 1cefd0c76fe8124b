"""The same film as another camera would see it: changed a little, another way each time that it is learned from.

Each change is the same for a whole scene: light and contrast, a cast of colour, and grain that differs from frame to
frame. What stands where, and what it is called, stays. The ranges are our choice: no shade of the training films comes
nearer to another colour than to its own.
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


def seen_otherwise(films: Mapping[int, Pixels], random: np.random.Generator) -> dict[int, Pixels]:
    """Change the pairs `(2, H, W, 3)` of a scene by what is drawn; the given ones stay as they are."""
    if not films or random.random() < UNCHANGED_SHARE:
        return dict(films)
    table = _table(random)
    grain = _grain(random, next(iter(films.values())).shape) if random.random() < GRAINY_SHARE else None
    return {turn: _changed(pixels, table, grain, random) for turn, pixels in films.items()}


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


def _changed(
    pixels: Pixels,
    table: npt.NDArray[np.uint8],
    grain: npt.NDArray[np.int16] | None,
    random: np.random.Generator,
) -> Pixels:
    changed = np.stack([table[channel][pixels[..., channel]] for channel in range(len(table))], axis=-1)
    if grain is None:
        return changed
    height, width = pixels.shape[1:3]
    noisy = changed.astype(np.int16)
    for frame in noisy:
        top, left = random.integers(0, height + 1), random.integers(0, width + 1)
        frame += grain[top : top + height, left : left + width]
    return noisy.clip(0, 255).astype(np.uint8)
