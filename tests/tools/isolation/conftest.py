"""The context of the tools' tests, with a user who can be asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from microturn.protocols import ContextPackage, Speech
from microturn.tools import ToolContext


@pytest.fixture
def heard() -> list[str]:
    """What was reported, said and asked, in order."""
    return []


@pytest.fixture
def context(tmp_path: Path, heard: list[str]) -> ToolContext:
    async def progress(text: str) -> None:
        heard.append(f"progress: {text}")

    async def say(speech: Speech) -> None:
        heard.append(f"say: {speech.text}")

    async def ask(question: str, *, timeout_s: float = 60.0) -> str:
        heard.append(f"ask: {question}")
        return "the blue one"

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
    return replace(
        ToolContext(
            package=package,
            progress=progress,
            say=say,
            data_dir=tmp_path / "data",
            idempotency_key=ToolContext.key("task", 0),
        ),
        ask=ask,
    )
