"""A home of its own for every test of the runtime, and one real server for those that need one.

In that home the command line can be run, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from microturn.runtime import cli
from microturn.runtime.bus import EmbeddedServer
from microturn.weights import cache_directory


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, so that nothing of the user's is read or touched; only the weights are the real ones."""
    weights = cache_directory().parent
    for name in (
        "MICROTURN_REDIS_URL",
        "MICROTURN_MODEL_URL",
        "MICROTURN_MODEL",
        "MICROTURN_MODEL_KEY",
        "MICROTURN_MODEL_FILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MICROTURN_CACHE", str(weights))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE", "DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `microturn` with these arguments, as a shell does but for the process."""

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["microturn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running
