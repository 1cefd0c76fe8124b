"""One real server for the folder, a tenant of its own for each test, and what every test hands over."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import BusSettings, EmbeddedServer

LEASE_S = 0.6
_TENANTS = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
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
    ) -> ContextPackage:
        return ContextPackage(
            task_id=task_id,
            session_id=session_id,
            idempotency_key=idempotency_key or task_id,
            intent=intent,
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
def worker_program() -> Path:
    """A worker that runs as a process of its own; see there for what it takes."""
    return Path(__file__).with_name("worker_program.py")
