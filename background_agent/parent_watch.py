"""A child process that does not outlive the one that started it. Knows nothing of what the child does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

import anyio
from anyio.abc import Process

STOP_LIMIT_S = 2.0
"""How long a child that was asked to end may take."""
_PR_SET_PDEATHSIG = 1
"""Source: prctl(2) of Linux."""


def die_with_parent(parent: int) -> None:
    """Arrange for the kernel to kill this process when the thread that started it dies; Linux only.

    Elsewhere it does nothing: let the child also watch for its standard input to close.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It died before we had asked.
            os._exit(1)


async def end_child(process: Process) -> None:
    """Ask a child to end, kill it where it does not, and wait until it is gone, also when cancelled meanwhile."""
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(STOP_LIMIT_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
