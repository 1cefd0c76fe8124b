"""Artifacts: what is kept, how it is read, and how little of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from microturn.tools import ToolFailed, ToolRetry
from microturn.tools.artifacts import Artifacts

pytestmark = pytest.mark.unit


def test_a_text_is_kept_once_under_its_hash_and_read_in_pieces(tmp_path: Path) -> None:
    artifacts = Artifacts.of(tmp_path)
    name = artifacts.keep("äbc" * 100)

    assert artifacts.keep("äbc" * 100) == name and len(name) == 32
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [name]
    assert artifacts.read(name, 0, 4) == ("äbc", 400)
    assert artifacts.read(name, 396, 100) == ("äbc", 400)
    assert artifacts.read(name, 5_000, 100) == ("", 400)


def test_only_the_own_account_can_look_into_the_folder(tmp_path: Path) -> None:
    name = Artifacts.of(tmp_path).keep("private")

    assert (tmp_path / "artifacts").stat().st_mode & 0o077 == 0
    assert (tmp_path / "artifacts" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../secret", "", "ABC", "0" * 31, "0" * 33, "/etc/passwd", "0" * 31 + "\n"])
def test_what_is_no_name_is_never_a_path(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(ToolRetry, match="32 hexadecimal digits"):
        Artifacts.of(tmp_path).read(name, 0, 100)


def test_what_is_not_kept_any_more_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="not kept any more"):
        Artifacts.of(tmp_path).read("0" * 32, 0, 100)


def test_the_oldest_go_when_there_is_too_much(tmp_path: Path) -> None:
    now = 0.0
    artifacts = Artifacts(tmp_path, most_bytes=250, oldest_s=1_000, now=lambda: now)
    names = []
    for letter in "abc":
        now += 10
        names.append(artifacts.keep(letter * 100))
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])

    now += 10
    artifacts.keep("b" * 100)  # used again, so younger than c
    now += 10
    last = artifacts.keep("d" * 100)
    assert {path.name for path in tmp_path.iterdir()} == {names[1], last}


def test_what_is_too_old_goes_and_what_is_too_large_stays_until_the_next(tmp_path: Path) -> None:
    now = 0.0
    artifacts = Artifacts(tmp_path, most_bytes=250, oldest_s=1_000, now=lambda: now)
    large = artifacts.keep("x" * 1_000)
    assert artifacts.read(large, 0, 1)[1] == 1_000

    now = 2_000
    new = artifacts.keep("y")
    assert [path.name for path in tmp_path.iterdir()] == [new]
