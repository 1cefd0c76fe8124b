"""Tools that do nothing, one for each tier, to measure what a call costs beyond its work."""

from __future__ import annotations

import time

import anyio

from microturn.tools import tool


@tool
async def idle() -> str:
    """Do nothing, in process."""
    return ""


@tool(isolation="subprocess")
async def idle_outside() -> str:
    """Do nothing, in a child process."""
    return ""


@tool(isolation="sandbox")
async def idle_boxed() -> str:
    """Do nothing, in a sandbox."""
    return ""


@tool(isolation="subprocess")
async def wait_outside(note: str) -> str:
    """Wait, and write down when the wait was cancelled.

    Args:
        note: The file.
    """
    try:
        await anyio.sleep_forever()
    finally:
        with open(note, "w", encoding="ascii") as file:
            file.write(repr(time.monotonic()))
    return ""


def idle_call() -> str:
    """Do nothing; for pools of the standard library."""
    return ""
