"""Results as JSON lines, each on disk as soon as it is known, so that a measurement cut short loses nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path


class Journal:
    """Appends records to a file and says each in a few words on the standard error stream.

    Args:
        path: the file; its folder is made. None keeps the records in memory only.
        is_quiet: says nothing.
    """

    def __init__(self, path: Path | None, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._path = path
        self.records: list[dict[str, object]] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, kind: str, fields: Mapping[str, object]) -> None:
        """Write one record of some kind."""
        record = {"kind": kind, **fields}
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
        self._say(_summary(record))

    def failed(self, step: str, error: Exception) -> None:
        """Write that a step broke; the next one goes on."""
        self.add("failure", {"step": step, "error": f"{type(error).__name__}: {error}"[:2000]})

    def skipped(self, step: str) -> None:
        """Write that the time was over before a step."""
        self.add("skipped", {"step": step})

    @property
    def has_failures(self) -> bool:
        """Whether any step broke, or any check found other bits or too large an error."""
        return any(one["kind"] == "failure" or one.get("is_right") is False for one in self.records)

    def _say(self, line: str) -> None:
        if not self._is_quiet:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def _summary(record: Mapping[str, object]) -> str:
    """One line of a record: short values only."""
    words = [f"{key}={_short(value)}" for key, value in record.items() if value not in (None, "", [], {})]
    return " ".join(words)[:240]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
