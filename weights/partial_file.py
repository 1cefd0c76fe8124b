"""A file that is being put together and may be interrupted at any byte.

Beside it lies a small note that says which source the bytes are from and up to where they are whole, so that a
later run of the same source goes on there. A file under its final name is always complete and verified.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

from microturn.weights.weight_file import Progress, ProgressCallback


class PartialFile:
    """The bytes had so far of one weight file. A context manager; one owner at a time, who holds the lock."""

    def __init__(self, path: Path, origin: str, total_bytes: int, progress: ProgressCallback | None) -> None:
        self.path = path
        self._note = path.with_name(path.name + ".json")
        self._origin = origin
        self._total_bytes = total_bytes
        self._progress = progress
        self.parts = 0
        """How many parts of the source are wholly in the file."""

    def __enter__(self) -> Self:
        offset = self._resume()
        self._stream = self.path.open("r+b" if offset else "wb")
        self._stream.truncate(offset)
        self._stream.seek(offset)
        self._report()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def done_bytes(self) -> int:
        """How many bytes it has."""
        return self._stream.tell()

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._stream.write(chunk)
        self._report()

    def mark(self, parts: int) -> None:
        """Note that the file is whole up to here, with so many parts of its source."""
        self._stream.flush()
        self.parts = parts
        note = {"origin": self._origin, "offset": self.done_bytes, "parts": parts}
        draft = self._note.with_suffix(".draft")
        draft.write_text(json.dumps(note))
        draft.replace(self._note)

    def restart(self) -> None:
        """Forget the bytes: the source begins at its beginning."""
        self._stream.seek(0)
        self._stream.truncate(0)
        self.parts = 0

    def discard(self) -> None:
        """Remove the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _resume(self) -> int:
        """Offset up to which the bytes on disk can be used, or 0."""
        try:
            note = json.loads(self._note.read_text())
            size = self.path.stat().st_size
            offset, parts = int(note["offset"]), int(note["parts"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if note["origin"] != self._origin or not 0 < offset <= min(size, self._total_bytes):
            return 0
        self.parts = parts
        return offset

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(Progress(self.done_bytes, self._total_bytes))
