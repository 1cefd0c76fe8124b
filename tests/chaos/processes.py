"""The processes of a chaos run: started, told, listened to, stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import Process, TaskGroup, TaskStatus

ROOT = Path(__file__).parents[2]


class Program:
    """One process, whose lines are passed on as words until it ends."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.is_alive = True

    @classmethod
    async def start(
        cls, tasks: TaskGroup, module: str, url: str, on_line: Callable[[Program, list[str]], None], log: Path
    ) -> Program:
        """Start a program and wait until it is ready; one that could not reach the server is started again."""
        while True:
            program: Program = await tasks.start(cls._host, module, url, on_line, log)
            if program.is_alive:
                return program
            await anyio.sleep(0.2)

    @classmethod
    async def _host(
        cls,
        module: str,
        url: str,
        on_line: Callable[[Program, list[str]], None],
        log: Path,
        *,
        task_status: TaskStatus[Program],
    ) -> None:
        with log.open("ab") as errors:
            process = await anyio.open_process(
                [sys.executable, "-m", module, url], stdin=PIPE, stdout=PIPE, stderr=errors, cwd=ROOT
            )
        program = cls(process)
        try:
            await program._listen(on_line, task_status)
        finally:
            program.kill()
            with anyio.CancelScope(shield=True):
                await process.aclose()

    async def _listen(
        self, on_line: Callable[[Program, list[str]], None], task_status: TaskStatus[Program]
    ) -> None:
        assert self._process.stdout is not None
        rest, is_ready = b"", False
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                words = line.decode().split()
                if words[0] == "ready":
                    is_ready = True
                    task_status.started(self)
                else:
                    on_line(self, words)
        self.is_alive = False
        if not is_ready:
            task_status.started(self)

    async def tell(self, **order: object) -> None:
        """Send an order; one that is dead does not hear it."""
        assert self._process.stdin is not None
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.send((json.dumps(order) + "\n").encode())

    def kill(self) -> None:
        """End it at once."""
        self.is_alive = False
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on, as if nothing had been."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
