"""Runs the programs of one system, a worker or two and one that asks, and speaks with them in lines."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
from alternatives.trial import Order, Trial
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

PROGRAMS_FOLDER = Path(__file__).parent
LONGEST_LINE = 64 << 20


class Program:
    """One running program."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None and process.stdin is not None
        self.pid = process.pid
        self._process = process
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)

    async def line(self) -> str:
        """The next line that it prints."""
        return (await self._stdout.receive_until(b"\n", LONGEST_LINE)).decode()

    async def tell(self, line: str) -> None:
        """Write a line to it."""
        await self._stdin.send(line.encode() + b"\n")

    async def kill(self) -> None:
        """End it as a crash of the machine would, for this program."""
        os.kill(self.pid, signal.SIGKILL)
        await self._process.wait()


class System:
    """A job queue under test: its workers and the program that hands tasks to them."""

    def __init__(self, name: str, python: Path, url: str, package: Path) -> None:
        """The package is a file; what the programs complain of goes to a log beside it."""
        self.name = name
        self.workers: list[Program] = []
        self._line = [str(python), "-m", f"alternatives.with_{name}"]
        self._arguments = [url, str(package)]
        self._log = package.with_name(f"{name}.log")
        self._programs = AsyncExitStack()
        self._caller: Program | None = None

    async def start(self, workers: int) -> None:
        """Start the programs and wait until each is ready."""
        for _ in range(workers):
            await self.add_worker()
        self._caller = await self._start("caller")

    async def add_worker(self) -> None:
        """Start one more worker."""
        self.workers.append(await self._start("worker"))

    async def order(self, order: Order) -> None:
        """Have tasks handed over."""
        assert self._caller is not None
        await self._caller.tell(order.encode())

    async def first_pid(self) -> int:
        """Wait for the first piece; the process that sent it."""
        assert self._caller is not None
        word, _, number = (await self._caller.line()).partition(" ")
        assert word == "first"
        return int(number)

    async def trials(self) -> list[Trial]:
        """Wait until all tasks of the order have ended or their time is up."""
        assert self._caller is not None
        while (line := await self._caller.line()).startswith("first"):
            pass
        return [Trial(**trial) for trial in json.loads(line)]

    async def close(self) -> None:
        """End the programs."""
        await self._programs.aclose()

    async def _start(self, role: str) -> Program:
        program = await self._programs.enter_async_context(
            _running([*self._line, role, *self._arguments], self._log)
        )
        assert (await program.line()) == "ready"
        return program


@asynccontextmanager
async def _running(line: list[str], log: Path) -> AsyncIterator[Program]:
    with log.open("ab") as errors:
        process = await anyio.open_process(line, cwd=PROGRAMS_FOLDER, stderr=errors)
    try:
        yield Program(process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await process.aclose()
