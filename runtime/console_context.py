"""A tool's context on a terminal: progress and speech are shown, questions are answered at the keyboard."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
from rich.console import Console

from microturn.protocols import Speech
from microturn.tools import ToolContext, ToolFailed, standalone_package


def console_context(console: Console, data_dir: Path) -> ToolContext:
    """Make a context for one call.

    Args:
        console: Where progress, speech and questions are shown.
        data_dir: The user's folder.
    """

    async def progress(text: str) -> None:
        console.print(f"… {text}", style="dim", markup=False, highlight=False, soft_wrap=True)

    async def say(speech: Speech) -> None:
        when = "now" if speech.not_before_ms is None else f"in {speech.not_before_ms / 1000:g} s"
        console.print(f"to be said {when}: {speech.text}", markup=False, highlight=False, soft_wrap=True)

    async def ask(question: str, *, timeout_s: float = 60.0) -> str:
        console.print(f"? {question}", style="bold", markup=False, highlight=False, soft_wrap=True)
        with anyio.move_on_after(timeout_s):
            return await anyio.to_thread.run_sync(_read_line, abandon_on_cancel=True)
        raise ToolFailed("the user did not answer in time")

    package = standalone_package("console", "a call from the command line")
    return ToolContext(
        package=package,
        progress=progress,
        say=say,
        ask=ask,
        data_dir=data_dir,
        idempotency_key=ToolContext.key(package.task_id, 0),
    )


def _read_line() -> str:
    try:
        return input().strip()
    except EOFError:
        raise ToolFailed("there is nobody at the keyboard to answer") from None
