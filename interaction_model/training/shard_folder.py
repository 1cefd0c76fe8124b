"""A folder of files that are made one by one, each from its name alone, and can be gone on with after a kill.

A file appears under its name only when it is whole. The folder's plan says what it is made from; a folder of another
plan is refused. Knows nothing of what the arrays hold. The one place of the training that loads safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy.typing as npt

from microturn.interaction_model.training._errors import BankMismatchError
from microturn.kernels import NativeExtraMissingError

Plan: TypeAlias = Mapping[str, str | int | float | bool | list[str]]
"""What a folder is made from, as it is written to its `plan.json`."""
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
_SUFFIX = ".safetensors"


def claim(path: Path, plan: Plan) -> None:
    """Make a folder for a plan, or make sure that it was made for this one.

    Raises:
        BankMismatchError: the folder was made from another plan.
    """
    path.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps(plan, indent=1, sort_keys=True)
    file = path / "plan.json"
    if not file.exists():
        _write(file, wanted.encode())
    elif (found := file.read_text("utf-8")) != wanted:
        raise BankMismatchError(path, expected=_short(wanted), got=_short(found))


class ShardFolder:
    """The files of one plan; several processes may write different ones at the same time."""

    def __init__(self, path: Path, plan: Plan) -> None:
        """Go on with a folder, or make it.

        Raises:
            BankMismatchError: the folder was made from another plan.
        """
        claim(path, plan)
        self.path = path

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those names that have no file yet, in their order."""
        return [name for name in names if not self.file(name).exists()]

    def file(self, name: str) -> Path:
        """Return where the file of a name lies."""
        return self.path / f"{name}{_SUFFIX}"

    def write(self, name: str, arrays: Arrays, note: Mapping[str, Any]) -> None:
        """Write the file of a name; equal arrays and notes give equal bytes. `note` is anything that JSON holds.

        Raises:
            NativeExtraMissingError: safetensors is not installed.
        """
        try:
            from safetensors.numpy import save
        except ImportError as error:
            raise NativeExtraMissingError("safetensors") from error
        # More than one key of metadata would be written in no fixed order.
        _write(self.file(name), save(dict(arrays), {"note": json.dumps(note, sort_keys=True)}))


class Shard:
    """One file, opened to be read; parts of its arrays are read when they are asked for."""

    def __init__(self, file: Path) -> None:
        """Open the file.

        Raises:
            NativeExtraMissingError: safetensors is not installed.
        """
        try:
            from safetensors import safe_open
        except ImportError as error:
            raise NativeExtraMissingError("safetensors") from error
        self._file = cast(Any, safe_open(file, framework="numpy"))  # its types name no arrays
        self.note: dict[str, Any] = json.loads(self._file.metadata()["note"])

    def whole(self, name: str) -> npt.NDArray[Any]:
        """Read an array."""
        array: npt.NDArray[Any] = self._file.get_tensor(name)
        return array

    def part(self, name: str, begin: int, end: int) -> npt.NDArray[Any]:
        """Read the rows from `begin` to one before `end` of an array."""
        rows = self._file.get_slice(name)
        if rows.get_shape()[0] == 0:
            # safetensors cuts nothing from nothing.
            return self.whole(name)[begin:end]
        array: npt.NDArray[Any] = rows[begin:end]
        return array


def shard_files(path: Path) -> list[Path]:
    """Return the whole files of a folder, by name."""
    return sorted(path.glob(f"*{_SUFFIX}"))


def _write(file: Path, content: bytes) -> None:
    """Write under another name and rename, so that no half-written file is ever taken for a whole one."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _short(plan: str) -> str:
    return " ".join(plan.split())
