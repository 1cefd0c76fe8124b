"""What the user has shown of late, by reference: the key frames of the next context packages.

Knows nothing of where the pictures are kept.
"""

from __future__ import annotations

from collections import deque

from microturn.protocols import Reference

KEPT_FRAMES = 4
"""Pictures that go with a task, the newest. Our choice."""


class KeyFrames:
    """The newest pictures of one session. Owned by the beat."""

    def __init__(self) -> None:
        self._frames: deque[Reference] = deque(maxlen=KEPT_FRAMES)

    def add(self, reference: Reference) -> None:
        """Keep a picture; the same one again counts as new, and takes no second place."""
        same = [frame for frame in self._frames if frame.key == reference.key]
        for frame in same:
            self._frames.remove(frame)
        self._frames.append(reference)

    def at(self, now_ms: float) -> tuple[Reference, ...]:
        """The pictures that are still kept at a session time, oldest first."""
        return tuple(frame for frame in self._frames if now_ms < frame.time_ms + frame.ttl_s * 1000)
