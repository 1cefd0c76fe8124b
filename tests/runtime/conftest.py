"""A home of its own for every test of the runtime, and one real server for those that need one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from microturn.runtime.bus import EmbeddedServer
from microturn.weights import cache_directory


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


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running
