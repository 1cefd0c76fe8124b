"""Workers in processes of their own, for tests to kill and stop, and what a test reads from the other side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio

from microturn.protocols import DelegationEvent
from microturn.runtime.bus import BusSettings, DelegationPort

PROGRAM = Path(__file__).with_name("worker_program.py")


class Workers:
    """The processes of one `worker_program.py`, ready to take tasks, and what they say."""

    def __init__(self, settings: BusSettings, count: int, *, clock_offset_s: float = 0.0) -> None:
        self._program = subprocess.Popen(
            [
                *(sys.executable, str(PROGRAM), settings.url, settings.tenant),
                *(str(settings.lease_s), str(count), str(clock_offset_s), str(settings.shards)),
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pids = [int(self._line()[1]) for _ in range(count)]

    async def said(self, *words: str) -> int:
        """Wait until one of them says this of a task, and return its process id."""
        while True:
            what, pid, *rest = await anyio.to_thread.run_sync(self._line)
            if (what, *rest) == words:
                return int(pid)

    def end(self) -> list[list[str]]:
        """Kill all, and return what they said that nobody has read; nothing if they have been ended before."""
        if self._program.returncode is not None:
            return []
        os.killpg(self._program.pid, signal.SIGKILL)
        out, _ = self._program.communicate()
        return [line.split() for line in out.splitlines()]

    def _line(self) -> list[str]:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, "the worker program has ended"
        return line.split()


StartWorkers = Callable[..., Workers]


async def collect(port: DelegationPort, tasks: int) -> dict[str, list[DelegationEvent]]:
    """Read events until so many tasks have ended; a gap fails the test."""
    seen: dict[str, list[DelegationEvent]] = {}
    async for event in port.events():
        assert isinstance(event, DelegationEvent), event
        seen.setdefault(event.task_id, []).append(event)
        port.acknowledge_nowait(event.task_id, event.seq)
        tasks -= event.is_terminal
        if tasks == 0:
            break
    return seen


def assert_whole(events: list[DelegationEvent], parts: int) -> None:
    """All numbers in order, every part once and in order, one end."""
    assert [event.seq for event in events] == list(range(parts + 2))
    assert [event.kind for event in events] == ["accepted", *["partial"] * parts, "final"]
    assert [event.text for event in events[1:-1]] == [str(number) for number in range(parts)]
