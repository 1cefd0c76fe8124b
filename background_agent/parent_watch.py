"""A child process that does not outlive the one that started it. Knows nothing of what the child does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

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
