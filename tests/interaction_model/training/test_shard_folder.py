"""Folders that are made file by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from microturn.interaction_model.training._errors import BankMismatchError
from microturn.interaction_model.training.shard_folder import Shard, ShardFolder, claim, shard_files

pytestmark = pytest.mark.unit

ARRAYS: dict[str, npt.NDArray[Any]] = {
    "audio": np.arange(10, dtype=np.int16),
    "spans": np.arange(6, dtype=np.int32).reshape(3, 2),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    ShardFolder(tmp_path, {"seed": 1}).write("a", ARRAYS, {"speakers": ["x", "y"]})
    (file,) = shard_files(tmp_path)
    shard = Shard(file)
    assert shard.note == {"speakers": ["x", "y"]}
    assert np.array_equal(shard.whole("spans"), ARRAYS["spans"])
    assert shard.whole("audio").dtype == np.int16
    assert np.array_equal(shard.part("audio", 3, 7), [3, 4, 5, 6])
    assert shard.part("audio", 4, 4).shape == (0,)


def test_nothing_can_be_read_from_an_empty_array(tmp_path: Path) -> None:
    ShardFolder(tmp_path, {}).write("a", {"frames": np.zeros((0, 24, 48), np.float16)}, {})
    part = Shard(tmp_path / "a.safetensors").part("frames", 0, 0)
    assert part.shape == (0, 24, 48) and part.dtype == np.float16


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ShardFolder(tmp_path / name, {}).write("x", ARRAYS, {"one": 1, "two": [2], "three": "3"})
    first, second = ((tmp_path / name / "x.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_only_what_is_not_there_is_missing(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, {})
    folder.write("b", ARRAYS, {})
    assert folder.missing(["c", "b", "a"]) == ["c", "a"]


def test_a_half_written_file_counts_as_missing(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path, {})
    (tmp_path / ".a.safetensors.123").write_bytes(b"half")
    assert folder.missing(["a"]) == ["a"]
    assert shard_files(tmp_path) == []


def test_a_folder_of_another_plan_is_refused_and_left_alone(tmp_path: Path) -> None:
    claim(tmp_path, {"seed": 1, "engines": ["hibari"]})
    claim(tmp_path, {"engines": ["hibari"], "seed": 1})
    with pytest.raises(BankMismatchError, match='expected the plan.*"seed": 2.*got.*"seed": 1'):
        claim(tmp_path, {"seed": 2, "engines": ["hibari"]})
    claim(tmp_path, {"seed": 1, "engines": ["hibari"]})
