"""Files of safetensors: whole or not at all, and of a format that is known.

The one place that notices that safetensors is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from microturn.interaction_model.native._errors import (
    CheckpointMissingError,
    CorruptCheckpointError,
    ForeignCheckpointError,
    FutureCheckpointError,
)
from microturn.kernels import NativeExtraMissingError

if find_spec("safetensors") is None:
    raise NativeExtraMissingError("safetensors")

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

__all__ = ("expect_format", "read_file", "save_file", "write_file")


def read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file.

    Raises:
        CheckpointMissingError: there is no such file.
        CorruptCheckpointError: it is not a whole safetensors file.
    """
    if not path.is_file():
        raise CheckpointMissingError(path)
    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            return dict(opened.metadata() or {}), {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise CorruptCheckpointError(path, expected="a whole safetensors file", got=str(error)) from error


def write_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a file and the folders above it; an interrupted call leaves an older file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, unfinished, metadata)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def expect_format(path: Path, metadata: Mapping[str, str], name: str, newest: int) -> None:
    """Make sure that a file's metadata name a format and a version of it up to `newest`.

    Raises:
        ForeignCheckpointError: they name another format, or none.
        CorruptCheckpointError: the version is no number.
        FutureCheckpointError: a newer program wrote it.
    """
    if metadata.get("format") != name:
        got = repr(metadata.get("format"))
        raise ForeignCheckpointError(path, expected=f"the format {name!r} in its metadata", got=got)
    version = metadata.get("format_version", "")
    if not version.isdigit():
        raise CorruptCheckpointError(path, expected="a number as format_version", got=repr(version))
    if int(version) > newest:
        raise FutureCheckpointError(path, known=newest, got=int(version))
