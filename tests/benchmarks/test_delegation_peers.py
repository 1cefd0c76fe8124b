"""The programs through which our bus is compared with others do their work."""

from __future__ import annotations

from pathlib import Path

import pytest
from alternatives.trial import Order
from bench_handover import make_package
from delegation_peers import running

from microturn.runtime.bus import EmbeddedServer

pytestmark = pytest.mark.redis


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "package.json"
    path.write_text(make_package(0, "").encode(), "utf-8")
    return path


@pytest.mark.anyio
async def test_every_piece_comes_once_and_in_order(tmp_path: Path, package: Path) -> None:
    async with (
        EmbeddedServer(tmp_path / "server") as server,
        running(["microturn"], tmp_path, server.url, package, workers=1) as [system],
    ):
        await system.order(Order(tasks=6, at_once=3))
        trials = await system.trials()
    assert [trial.numbers for trial in trials] == [list(range(20))] * 6
    assert all(trial.ended_s is not None for trial in trials)
    assert {pid for trial in trials for pid in trial.pids} == {system.workers[0].pid}
