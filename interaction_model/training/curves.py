"""The log of a run: one JSON object a line, each with its kind and its step.

    {"kind": "train", "step": 20, "loss": 1.2, ...}
    {"kind": "held_out", "step": 100, "loss": 1.1, "tasks": {"clock": {"words": 0.5, ...}, ...}}
    {"kind": "free_run", "step": 100, "tasks": {"clock": {"said": {"wanted": 9, ...}, ...}, ...}}

Knows nothing of plots or of training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = Mapping[str, Any]
"""Numbers, texts, and mappings of them; None where there was nothing to measure."""


class CurveLog:
    """A log that is added to. A line is written as a whole or, if the machine dies, may be cut short at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Record) -> None:
        """Add a record.

        Raises:
            OSError: it cannot be written.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(record)) + "\n")

    def rewind(self, step: int) -> None:
        """Drop what was logged behind a step: it will be trained again."""
        kept = [record for record in read_curves(self.path) if record["step"] <= step]
        beside = self.path.with_name(f".{self.path.name}")
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        beside.replace(self.path)


def read_curves(path: Path) -> list[Record]:
    """Read a log; no file is an empty log, and lines that are not whole are left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [record for line in lines if (record := _record(line)) is not None]


def curve(records: Iterable[Record], kind: str, *path: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of one number, where it was measured.

    Args:
        records: of a log.
        kind: of records.
        path: the keys that lead to the number.
    """
    steps, values = [], []
    for record in records:
        value = _at(record, path) if record["kind"] == kind else None
        if isinstance(value, int | float):
            steps.append(int(record["step"]))
            values.append(float(value))
    return steps, values


def tasks_of(records: Iterable[Record]) -> Sequence[str]:
    """Return the names of all tasks that were measured, sorted."""
    return sorted({task for record in records for task in record.get("tasks", {})})


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _record(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"kind", "step"} <= record.keys() else None


def _finite(value: Any) -> Any:
    """JSON has no infinities."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
