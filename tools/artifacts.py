"""Keeps whole results, of which the model was shown head and tail, in files named by what is in them.

The folder is bounded by size and by age. What tools returned may be private: it lies in the user's own data folder,
readable for this account only. Knows nothing of tools.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from microturn.tools._errors import ToolFailed, ToolRetry

MOST_BYTES = 64 * 1024 * 1024
"""Of all that one user's folder keeps, the oldest go beyond that. Our choice."""
OLDEST_S = 7 * 24 * 3600.0
"""What has not been kept or read for so long goes. Our choice."""

_NAME = re.compile(r"[0-9a-f]{32}")


class Artifacts:
    """The files of one folder. All methods read and write the disk: call them from a worker thread."""

    def __init__(
        self,
        folder: Path,
        *,
        most_bytes: int = MOST_BYTES,
        oldest_s: float = OLDEST_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._oldest_s = oldest_s
        self._now = now

    @classmethod
    def of(cls, data_dir: Path) -> Artifacts:
        """The artifacts in a user's data folder."""
        return cls(data_dir / "artifacts")

    def keep(self, text: str) -> str:
        """Keep a text and return its name: the first 32 digits of its SHA-256. The same text is kept once.

        Raises:
            OSError: the folder cannot be written.
        """
        data = text.encode(errors="replace")
        name = hashlib.sha256(data).hexdigest()[:32]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / name
        if not path.exists():
            self._write(path, data)
        os.utime(path, (self._now(), self._now()))
        self._tidy(name)
        return name

    def read(self, name: str, start_byte: int, most_bytes: int) -> tuple[str, int]:
        """Return a piece of a text, from `start_byte` on at most `most_bytes`, and the length of the whole in bytes.

        Raises:
            ToolRetry: the name is not one of an artifact.
            ToolFailed: it is not kept any more.
        """
        if not _NAME.fullmatch(name):
            raise ToolRetry("`artifact` is a name of 32 hexadecimal digits, as a shortened result gives it")
        path = self._folder / name
        try:
            with path.open("rb") as file:
                total = os.fstat(file.fileno()).st_size
                file.seek(min(start_byte, total))
                piece = file.read(most_bytes)
        except FileNotFoundError:
            raise ToolFailed("this artifact is not kept any more; call the tool again that gave it") from None
        return piece.decode(errors="ignore"), total

    def _write(self, path: Path, data: bytes) -> None:
        """Write whole or not at all; a reader never meets a half of it."""
        number, unfinished = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            os.replace(unfinished, path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise

    def _tidy(self, newest: str) -> None:
        entries = []
        for path in self._folder.iterdir():
            try:
                state = path.stat()
            except FileNotFoundError:  # another process tidies too
                continue
            entries.append((state.st_mtime, state.st_size, path))
        room = self._most_bytes
        for changed_s, size, path in sorted(entries, reverse=True):
            room -= size
            is_over = room < 0 or changed_s < self._now() - self._oldest_s
            if is_over and path.name != newest:
                path.unlink(missing_ok=True)
