"""The sandbox by Landlock and seccomp, made by sandlock: needs neither root nor namespaces.

What is not shown is forbidden instead of hidden, and nothing can be written, not even in /tmp. A small program stands
between this process and the sandbox, because the supervisor of the sandbox has to be the one that starts it.

Source: landlock(7); the documentation of sandlock.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from microturn.tools.isolation.sandbox_view import ENVIRONMENT, SETTINGS, SYSTEM

_DEVICES = ("/dev/zero", "/dev/urandom", "/dev/random")
_PROBE_LIMIT_S = 5.0
_LAUNCHER = Path(__file__).with_name("landlock_launcher.py")


@cache
def refusal() -> str | None:
    """Why Landlock does not work here; None where it does. Tried once, by making a sandbox that does nothing."""
    try:
        sandlock = importlib.import_module("sandlock")
        found, needed = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    except (ImportError, OSError, RuntimeError):
        return "sandlock is not installed"
    if found < needed:
        return f"the kernel has Landlock version {found}, and {needed} is needed"
    command = [*wrapper(()), sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_LIMIT_S, check=False, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Landlock cannot be tried ({type(error).__name__})"
    return None if done.returncode == 0 else f"Landlock makes no sandbox here (status {done.returncode})"


def wrapper(folders: Iterable[Path]) -> list[str]:
    """The command line up to the program that is to be run inside; `folders` can be read there too."""
    wanted = [*SYSTEM, *SETTINGS, *_DEVICES, sys.base_prefix, sys.prefix, *map(str, folders)]
    settings = {
        "readable": [each for each in dict.fromkeys(wanted) if Path(each).exists()],
        "writable": ["/dev/null"],
        "environment": {**ENVIRONMENT, "HOME": "/"},
    }
    return [sys.executable, "-I", str(_LAUNCHER), json.dumps(settings)]
