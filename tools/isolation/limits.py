"""What a child process may use at most, and how it binds itself to that."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

if sys.platform != "win32":
    import resource

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """The limits of one child process. The defaults are our choice."""

    memory_bytes: int = 1024 * MIB
    """Address space, which is more than the memory in use: Python with pydantic maps some 150 MiB, and numpy about
    as much again."""
    file_bytes: int = 64 * MIB
    """Longest file it may write."""
    open_files: int = 256
    processes: int = 64
    """Processes of this user, where the tool may start any. The system does not hold root to it."""

    def apply(self) -> None:
        """Bind the calling process for good. Limits that are stricter already stay."""
        _lower(resource.RLIMIT_AS, self.memory_bytes)
        _lower(resource.RLIMIT_FSIZE, self.file_bytes)
        _lower(resource.RLIMIT_NOFILE, self.open_files)
        _lower(resource.RLIMIT_CORE, 0)

    def limit_processes(self) -> None:
        """Bind the number of processes too; for a tool that may start some."""
        _lower(resource.RLIMIT_NPROC, self.processes)


def allow_cpu_s(seconds: float) -> None:
    """Let the calling process use so much processor time from now on; beyond it the system ends it.

    The wall clock of a call is watched from outside. This is for what that misses: many threads at once, and a
    parent that is stopped.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def _lower(which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    lowered = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (lowered, lowered))
