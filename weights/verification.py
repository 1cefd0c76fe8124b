"""Whether a file has the pinned bytes; the answer is remembered, so that a large file is hashed once.

A remembered answer holds for one path, size and time of change. It is a convenience, not a seal: who can write
the cache can also write the answers.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from microturn.weights._errors import WeightCorruptError
from microturn.weights.weight_file import WeightFile

_CHUNK_BYTES = 1 << 20


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hex. Blocks: about 1 s per GB at best."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class Verifier:
    """Compares files with the catalogue, and remembers the answers in a directory."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    def check(self, file: WeightFile, path: Path, *, known_as: Path | None = None) -> Path:
        """Return `path` where it holds the pinned bytes; the answer is kept for `known_as`, to which it may move.

        Raises:
            WeightCorruptError: its size or its hash is another one.
        """
        stat = path.stat()
        if stat.st_size != file.size_bytes:
            raise WeightCorruptError(
                f"{path} is not the pinned {file.name!r}: expected {file.size_bytes} bytes, got {stat.st_size}; "
                f"remove it, or get the right file with `microturn weights fetch {file.name}`"
            )
        state: dict[str, int | str] = {
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "sha256": file.sha256,
        }
        if self._recall(path) == state:
            return path
        got = hash_of(path)
        if got != file.sha256:
            raise WeightCorruptError(
                f"{path} is not the pinned {file.name!r}: expected SHA-256 {file.sha256}, got {got}; "
                f"remove it, or get the right file with `microturn weights fetch {file.name}`"
            )
        self._remember(known_as or path, state)
        return path

    def _note(self, path: Path) -> Path:
        return self._memory / (hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32] + ".json")

    def _recall(self, path: Path) -> object:
        try:
            return json.loads(self._note(path).read_text())
        except (OSError, ValueError):
            return None

    def _remember(self, path: Path, state: dict[str, int | str]) -> None:
        note = self._note(path)
        draft = note.with_suffix(f".{os.getpid()}")
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(state))
            draft.replace(note)
        except OSError:
            return  # A cache that cannot be written costs a hash on the next start, nothing more.
