"""A context for the tests of a tool: it keeps what the tool reports, says and asks."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from microturn.protocols import ContextPackage, Speech
from microturn.tools._errors import ToolFailed
from microturn.tools.context import ToolContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingContext(ToolContext):
    """A context that shows what was done with it."""

    reported: list[str] = field(default_factory=list)
    """What the tool reported as progress."""
    said: list[Speech] = field(default_factory=list)
    """What it scheduled to be said."""
    asked: list[str] = field(default_factory=list)
    """What it asked the user."""


def make_context(
    *,
    intent: str = "try a tool",
    local_time: str = "2026-05-04T16:45:00+02:00",
    said_end_ms: int = 5_000,
    data_dir: Path | None = None,
    answers: Iterable[str] = (),
) -> RecordingContext:
    """Make a context for one call.

    Args:
        intent: What the user wants, as the interaction model put it.
        local_time: The user's wall time at the end of the words: ISO 8601 with offset.
        said_end_ms: Session time of that moment, from which scheduled speech counts.
        data_dir: The user's folder; a temporary one without, which goes with the process.
        answers: What the user answers to `ask`, one after the other; then nobody answers.
    """
    reported: list[str] = []
    said: list[Speech] = []
    asked: list[str] = []
    left = list(answers)

    async def progress(text: str) -> None:
        reported.append(text)

    async def say(speech: Speech) -> None:
        said.append(speech)

    async def ask(question: str, *, timeout_s: float = 60.0) -> str:
        asked.append(question)
        if not left:
            raise ToolFailed("the user did not answer")
        return left.pop(0)

    package = ContextPackage(
        task_id="task",
        session_id="session",
        idempotency_key="task",
        intent=intent,
        said_start_ms=max(0, said_end_ms - 2_000),
        said_end_ms=said_end_ms,
        local_time=local_time,
        deadline_s=60,
    )
    return RecordingContext(
        package=package,
        progress=progress,
        say=say,
        ask=ask,
        data_dir=data_dir or _temporary_folder(),
        idempotency_key=ToolContext.key(package.task_id, 0),
        reported=reported,
        said=said,
        asked=asked,
    )


def _temporary_folder() -> Path:
    folder = mkdtemp(prefix="microturn-tool-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
