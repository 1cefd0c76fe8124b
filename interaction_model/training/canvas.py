"""A small painter for films: discs, capsules and convex polygons with soft edges, in numpy.

Each shape is painted inside its bounding box only, so that a frame of a few shapes costs a fraction of a millisecond.
Coordinates are pixels, x to the right and y down, of points between pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""x and y."""
Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
Floats = npt.NDArray[np.float32]


class Canvas:
    """An image that is being painted; it owns its pixels."""

    def __init__(self, background: Floats) -> None:
        self.pixels = background.copy()
        """(H, W, 3) float32, 0 to 255."""
        height, width = background.shape[:2]
        self._size = (width, height)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Paint a filled circle."""
        self.capsule(centre, centre, radius, colour)

    def capsule(self, first: Point, second: Point, radius: float, colour: Colour) -> None:
        """Paint a thick line with round ends."""
        box = self._box((first, second), radius)
        if box is None:
            return
        xs, ys = _centres(box)
        dx, dy = second[0] - first[0], second[1] - first[1]
        length = max(dx * dx + dy * dy, 1e-9)
        along = np.clip(((xs - first[0]) * dx + (ys - first[1]) * dy) / length, 0, 1)
        distance = np.hypot(xs - first[0] - along * dx, ys - first[1] - along * dy)
        self._blend(box, np.asarray(radius - distance, dtype=np.float32), colour)

    def polygon(self, corners: Sequence[Point], colour: Colour) -> None:
        """Paint a convex polygon; its corners go clockwise as seen on the screen."""
        box = self._box(corners, 0)
        if box is None:
            return
        xs, ys = _centres(box)
        inside = np.full(np.broadcast_shapes(xs.shape, ys.shape), np.inf, dtype=np.float32)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            length = max(float(np.hypot(bx - ax, by - ay)), 1e-9)
            inside = np.minimum(inside, ((bx - ax) * (ys - ay) - (by - ay) * (xs - ax)) / length)
        self._blend(box, inside, colour)

    def _box(self, points: Sequence[Point], margin: float) -> tuple[int, int, int, int] | None:
        """Left, right, top and bottom of what is touched; None if nothing of it is on the canvas."""
        low = np.floor(np.min(points, axis=0) - margin - 1).astype(int)
        high = np.ceil(np.max(points, axis=0) + margin + 1).astype(int)
        (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, self._size)
        return (int(left), int(right), int(top), int(bottom)) if left < right and top < bottom else None

    def _blend(self, box: tuple[int, int, int, int], inside: Floats, colour: Colour) -> None:
        """Mix the colour in by how far a pixel's centre lies inside, over one pixel of soft edge."""
        left, right, top, bottom = box
        share = np.clip(inside + 0.5, 0, 1)[..., None]
        here = self.pixels[top:bottom, left:right]
        here += share * (np.asarray(colour, dtype=np.float32) - here)


def _centres(box: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
    left, right, top, bottom = box
    xs = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5)
    ys = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
    return xs, ys
