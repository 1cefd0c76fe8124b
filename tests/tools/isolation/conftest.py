"""The context of the tools' tests, with a user who can be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microturn.protocols import Speech
from microturn.tools import ToolContext


@pytest.fixture
def heard() -> list[str]:
    """What was reported, said and asked, in order."""
    return []


@pytest.fixture
def context(context: ToolContext, heard: list[str]) -> ToolContext:
    async def progress(text: str) -> None:
        heard.append(f"progress: {text}")

    async def say(speech: Speech) -> None:
        heard.append(f"say: {speech.text}")

    async def ask(question: str, *, timeout_s: float = 60.0) -> str:
        heard.append(f"ask: {question}")
        return "the blue one"

    return replace(context, progress=progress, say=say, ask=ask)
