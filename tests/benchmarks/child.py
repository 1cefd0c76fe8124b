"""Other processes of a benchmark: started, ready, and ended with the block, or with this process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def child(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script beside this file until the end of the block, from when it prints a line.

    Raises:
        RuntimeError: it ended before.
    """
    line = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            if not running.stdout.readline():
                raise RuntimeError(f"{script} ended before it was ready; see what it printed above")
            yield running
        finally:
            running.kill()


def ready() -> None:
    """Say so to whoever started this process, and die when that has."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    print("ready", flush=True)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)
