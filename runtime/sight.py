"""Camera frames between whoever takes them and the beat: a few of the newest, never waited for.

Knows nothing of cameras and of what is seen in the frames.
"""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from microturn.protocols import MICRO_TURN_MS, Frame
from microturn.runtime._errors import BadFrameError

SPACING_MS = 100
"""Time between the two frames of a step: movement is seen in their difference. As in the native model's training."""
STALE_MS = 2 * MICRO_TURN_MS
"""Frames that are this old when a step begins are not seen any more. Our choice."""
KEPT_FRAMES = 32
"""Frames that may wait for a step, so that a fast camera takes no more memory than this; the oldest is dropped."""


class Sight:
    """The frames of one session that wait for its next step. Safe to push to from any thread."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque(maxlen=KEPT_FRAMES)
        self._lock = threading.Lock()

    def push(self, frame: Frame) -> None:
        """Add a frame; its pixels are copied, as a camera may write the next picture over them.

        Raises:
            BadFrameError: its pixels are no RGB picture.
        """
        pixels = frame.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise BadFrameError((*pixels.shape, pixels.dtype.name))
        kept = Frame(frame.time_ms, pixels.copy())
        with self._lock:
            self._frames.append(kept)

    def take(self, now_ms: float) -> tuple[Frame, ...]:
        """Return what a step sees, and forget the rest.

        Args:
            now_ms: session time at the step's end.

        Returns:
            The newest frame, behind the one nearest to `SPACING_MS` before it if there is another; at most two.
        """
        with self._lock:
            waiting = [frame for frame in self._frames if frame.time_ms > now_ms - STALE_MS]
            self._frames.clear()
        if not waiting:
            return ()
        newest = max(waiting, key=lambda frame: frame.time_ms)
        wanted = newest.time_ms - SPACING_MS
        others = [frame for frame in waiting if frame.time_ms < newest.time_ms]
        earlier = sorted(others, key=lambda frame: abs(frame.time_ms - wanted))[:1]
        return (*earlier, newest)
