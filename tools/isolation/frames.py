"""Messages over a pipe: JSON behind its length. The same on both ends, and nothing but the standard library."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

from microturn.protocols import MicroturnError

Frame: TypeAlias = dict[str, Any]  # Any: JSON that the receiver has yet to check
FRAME_LIMIT_BYTES = 16 * 1024 * 1024
"""Longest message: the longest result and the largest thing shown fit in, in base64. Our choice."""

_LENGTH = struct.Struct(">I")


class FrameError(MicroturnError):
    """What came over the pipe is no message."""


def encode(frame: Frame) -> bytes:
    """Write one message.

    Raises:
        FrameError: it is longer than `FRAME_LIMIT_BYTES`.
    """
    body = json.dumps(frame, ensure_ascii=True, separators=(",", ":")).encode()
    if len(body) > FRAME_LIMIT_BYTES:
        raise FrameError(f"a message of {len(body)} bytes is too long; the limit is {FRAME_LIMIT_BYTES}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Puts messages together from the pieces in which they arrive; holds at most one of them and a piece."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Take in bytes and give the messages that are whole now.

        Raises:
            FrameError: the sender does not keep to the format. The reader is of no use after that.
        """
        self._held += piece
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            if length > FRAME_LIMIT_BYTES:
                raise FrameError(
                    f"a message of {length} bytes was announced; the limit is {FRAME_LIMIT_BYTES}"
                )
            end = _LENGTH.size + length
            if len(self._held) < end:
                return
            body = bytes(self._held[_LENGTH.size : end])
            del self._held[:end]
            yield _decoded(body)


def _decoded(body: bytes) -> Frame:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        raise FrameError("a message is not JSON") from None
    if not isinstance(frame, dict):
        raise FrameError("a message is not a JSON object")
    return frame
