"""Environments of their own for the job queues that ours is compared with, since their needs contradict ours.

Each is made once, from a file of pinned versions beside the programs that it runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "alternatives"
PEERS = ("taskiq", "arq", "docket")


def python_of(system: str, folder: Path) -> Path:
    """The interpreter that runs a system's programs; makes its environment if there is none yet.

    Raises:
        subprocess.CalledProcessError: its packages cannot be installed.
    """
    if system == "microturn":
        return Path(sys.executable)
    home, wanted = folder / system, PROGRAMS / f"requirements-{system}.txt"
    done, python = home / "installed.txt", home / "bin" / "python"
    if not done.exists() or done.read_text("utf-8") != wanted.read_text("utf-8"):
        print(f"making the environment of {system} in {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        options = ("--quiet", "--quiet", "--disable-pip-version-check", "--requirement")
        subprocess.run([python, "-m", "pip", "install", *options, str(wanted)], check=True)
        done.write_text(wanted.read_text("utf-8"), "utf-8")
    return python
