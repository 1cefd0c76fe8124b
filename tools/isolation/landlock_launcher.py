"""The program that starts another one in a sandbox of Landlock and stays as its supervisor.

Run by its path, and imports nothing of microturn: it would cost as much time as the tool itself.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def main(arguments: Sequence[str]) -> int:
    """Run a command with the standard streams of this process and return its status.

    Args:
        arguments: A JSON object with `readable` and `writable` paths and the `environment`; then the command.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    settings = json.loads(arguments[0])
    sandbox = importlib.import_module("sandlock").Sandbox(
        fs_readable=settings["readable"],
        fs_writable=settings["writable"],
        clean_env=True,
        env=settings["environment"],
        cwd="/",
        no_coredump=True,
        max_processes=1,
    )
    return int(sandbox.popen(arguments[1:]).wait().exit_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
