"""A worker process of the chaos run: the real worker and bus, and an engine that says the words of numbered jobs.

Usage: python -m tests.chaos.worker_program URL. Prints `ready PID`.
"""

from __future__ import annotations

import os
import sys

import anyio

from microturn.background_agent import Worker
from microturn.background_agent.engine import Control, Emit
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.bus import open_worker_port
from microturn.tools import ToolRegistry
from tests.chaos.jobs import PARTS, job_of, text_of
from tests.chaos.settings import settings_for


class JobEngine:
    """Says the parts that no earlier attempt has said."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """See `AgentEngine`."""
        job = job_of(package.intent)
        assert job is not None
        said = sum(event.kind == "partial" for event in control.emitted)
        for part in range(said, PARTS - 1):
            await anyio.sleep(0.1)
            await emit("partial", speech=Speech(text=text_of(job, part)))
        await anyio.sleep(0.1)
        await emit("final", speech=Speech(text=text_of(job, PARTS - 1)))


async def main(url: str) -> None:
    """Work until killed, or until the driver is gone."""
    settings = settings_for(url)
    async with open_worker_port(settings) as port, anyio.create_task_group() as tasks:
        os.write(1, f"ready {os.getpid()}\n".encode())
        worker = Worker(port, JobEngine(), ToolRegistry(), concurrency=8, lease_s=settings.lease_s)
        tasks.start_soon(worker.run)
        async for _ in anyio.wrap_file(sys.stdin):
            pass
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
