"""Small workers in processes of their own, for tests that kill, stop and restart them.

Usage: worker_program.py URL TENANT LEASE_S COUNT CLOCK_OFFSET_S SHARDS. So many workers are forked, because one import is slow
enough; their clocks are wrong by so much. The intent of a package is `stream COUNT INTERVAL_MS`, `silent MS` (a tool
that says nothing), or `die`. Each worker prints `ready PID`, then `begun PID TASK ATTEMPT` for each task, then `ended
PID TASK HOW`.
"""

from __future__ import annotations

import os
import sys
import time


def set_clocks(offset_s: float) -> None:
    """Let every clock of this process be wrong; before the event loop is imported, which keeps its own reference."""
    real_time, real_monotonic = time.time, time.monotonic
    time.time = lambda: real_time() + offset_s
    time.monotonic = lambda: real_monotonic() + offset_s


if __name__ == "__main__":
    set_clocks(float(sys.argv[5]))

import anyio  # only now, as it keeps its own reference to the clocks

from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import DelegationEvent, EventKind
from microturn.runtime.bus import BusSettings, WorkerPort, open_worker_port


class Attempt:
    """One attempt at one task: emits on one side, beats on the other, and stops when told to."""

    def __init__(self, port: WorkerPort, entry: TaskEntry, begun: Begun, lease_s: float) -> None:
        self.port, self.entry, self.begun, self.lease_s = port, entry, begun, lease_s
        self.task_id = entry.package.task_id
        self.seq = begun.next_seq
        self.cancelled = False
        self.fenced = False

    async def emit(self, kind: EventKind, text: str = "", *, finish: bool = False) -> None:
        event = DelegationEvent(
            task_id=self.task_id, attempt=self.begun.attempt, seq=self.seq, kind=kind, text=text
        )
        result = await self.port.emit(self.task_id, self.begun.attempt, [event], finish=finish)
        self.seq += 1
        self.fenced = self.fenced or result.fenced
        self.cancelled = self.cancelled or result.cancel

    async def beat(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(self.lease_s / 4)
            result = await self.port.beat(self.entry, self.begun.attempt)
            self.fenced = self.fenced or result.fenced
            self.cancelled = self.cancelled or result.cancel
            if self.fenced or self.cancelled:
                scope.cancel()

    async def stream(self, count: int, interval_s: float) -> None:
        done = sum(event.kind == "partial" for event in self.begun.emitted)
        for number in range(done, count):
            await self.emit("partial", f"{number}")
            if self.fenced or self.cancelled:
                return
            await anyio.sleep(interval_s)

    async def work(self) -> None:
        match self.entry.package.intent.split():
            case ["die"]:
                os._exit(1)
            case ["silent", ms]:
                await anyio.sleep(int(ms) / 1000)
            case ["stream", count, interval_ms]:
                await self.stream(int(count), int(interval_ms) / 1000)

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.beat, tasks.cancel_scope)
            await self.work()
            tasks.cancel_scope.cancel()
        if not self.fenced:
            await self.emit("cancelled" if self.cancelled else "final", finish=True)
        how = "fenced" if self.fenced else "cancelled" if self.cancelled else "final"
        say("ended", os.getpid(), self.task_id, how)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # one write, so that lines do not mix


async def main(url: str, tenant: str, lease_s: float, shards: int) -> None:
    settings = BusSettings(url, tenant=tenant, shards=shards, lease_s=lease_s, presence_s=0.1)
    async with open_worker_port(settings) as port, anyio.create_task_group() as tasks:
        say("ready", os.getpid())
        while True:
            entry = await port.take()
            begun = await port.begin(entry)
            if begun is not None:
                say("begun", os.getpid(), entry.package.task_id, begun.attempt)
                tasks.start_soon(Attempt(port, entry, begun, lease_s).run)


if __name__ == "__main__":
    for _ in range(int(sys.argv[4])):
        if os.fork() == 0:
            anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[6]))
            os._exit(0)
    while True:
        os.wait()
