"""One real server for the folder, a tenant of its own for each test, and what every test hands over.

With MICROTURN_TEST_REDIS_SERVER, the path of a server program, all tests here run on that one instead of the
built-in Valkey; `.ci/second_server` finds one.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, EmbeddedServer, embedded_server

sys.path.insert(
    0, str(Path(__file__).parents[3])
)  # the root, for helpers that tests share, however pytest began
from tests.runtime.bus.worker_processes import StartWorkers, Workers

LEASE_S = 0.6
_TENANTS = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def server_program() -> Iterator[Path | None]:
    """The server program that was asked for; None for the built-in one."""
    asked = os.environ.get("MICROTURN_TEST_REDIS_SERVER")
    with pytest.MonkeyPatch.context() as patch:
        if asked:
            patch.setattr(embedded_server, "find_binary", lambda: Path(asked))
        yield Path(asked) if asked else None


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, server_program: Path | None) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def settings(server: EmbeddedServer) -> BusSettings:
    return BusSettings(server.url, tenant=f"test{next(_TENANTS)}", lease_s=LEASE_S, presence_s=0.1)


@pytest.fixture
def package() -> Callable[..., ContextPackage]:
    """Makes a package; `intent` tells a worker program what to do."""

    def make(
        task_id: str,
        *,
        intent: str = "",
        deadline_s: float = 30.0,
        idempotency_key: str | None = None,
        session_id: str = "session",
        urgent: bool = False,
    ) -> ContextPackage:
        return ContextPackage(
            task_id=task_id,
            session_id=session_id,
            idempotency_key=idempotency_key or task_id,
            intent=intent,
            urgent=urgent,
            said_start_ms=0,
            said_end_ms=400,
            local_time="2026-01-01T12:00:00+00:00",
            deadline_s=deadline_s,
        )

    return make


@pytest.fixture
def partial() -> Callable[[str, int, int], DelegationEvent]:
    """Makes a partial of a task, an attempt and a number."""

    def make(task_id: str, attempt: int, seq: int) -> DelegationEvent:
        return DelegationEvent(task_id=task_id, attempt=attempt, seq=seq, kind="partial", text=f"part {seq}")

    return make


@pytest.fixture
def start_workers(settings: BusSettings) -> Iterator[StartWorkers]:
    """Starts workers and waits until all are ready; they end with the test."""
    with ExitStack() as ends:

        def start(count: int, at: BusSettings = settings, *, clock_offset_s: float = 0.0) -> Workers:
            workers = Workers(at, count, clock_offset_s=clock_offset_s)
            ends.callback(workers.end)
            return workers

        yield start
