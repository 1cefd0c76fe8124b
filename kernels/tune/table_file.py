"""The table that a sweep writes, whole at any moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from microturn.kernels.gpu.tuning import MmaClass, parse_table


class TableFile:
    """A table of one architecture as it grows.

    Args:
        path: the JSON file.
        arch: ten times the compute capability.
        mma: the class of instructions that all its tiles belong to.
    """

    def __init__(self, path: Path, arch: int, mma: MmaClass) -> None:
        self._path = path
        self._arch, self._mma = arch, mma
        self._tiles: dict[str, dict[str, list[dict[str, object]]]] = {}

    def add(self, operator: str, n: int, k: int, entries: Sequence[dict[str, object]]) -> None:
        """Put in the entries of one weight and write the file.

        The last entry serves all larger batches, also if the time ended before the last bucket.
        """
        if entries:
            last = {**entries[-1], "max_rows": None}
            self._tiles.setdefault(operator, {})[f"{n}x{k}"] = [*entries[:-1], last]
        self.write()

    def write(self) -> None:
        """Replace the file by what is known now; a reader never sees half of it."""
        document = {"arch": self._arch, "mma_class": self._mma, "tiles": self._tiles}
        text = json.dumps(document, indent=1) + "\n"
        parse_table(text, name=str(self._path))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._path)
