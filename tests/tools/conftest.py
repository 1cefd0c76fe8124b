"""A context for the tools under test that keeps what they report."""

from __future__ import annotations

from pathlib import Path

import pytest

from microturn.protocols import ContextPackage, Speech
from microturn.tools import ToolContext


@pytest.fixture
def progress() -> list[str]:
    return []


@pytest.fixture
def said() -> list[Speech]:
    return []


@pytest.fixture
def context(tmp_path: Path, progress: list[str], said: list[Speech]) -> ToolContext:
    async def keep_progress(text: str) -> None:
        progress.append(text)

    async def keep_speech(speech: Speech) -> None:
        said.append(speech)

    package = ContextPackage(
        task_id="task",
        session_id="session",
        idempotency_key="said-once",
        intent="try a tool",
        said_start_ms=3_000,
        said_end_ms=5_000,
        local_time="2026-05-04T16:45:00+02:00",
        deadline_s=30,
    )
    return ToolContext(
        package=package,
        progress=keep_progress,
        say=keep_speech,
        data_dir=tmp_path / "data",
        idempotency_key=ToolContext.key("task", 0),
    )
