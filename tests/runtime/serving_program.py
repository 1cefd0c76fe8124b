"""A worker as a process of its own, for tests that end it in the middle of a task.

Usage: serving_program.py URL TENANT LEASE_S. It prints `ready`, and `engine PID ATTEMPT` for each run. The intent of a
package is how long its engine takes, in milliseconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from microturn.background_agent import DRAIN_SIGNALS, AgentEngine, Control, Emit
from microturn.protocols import ContextPackage
from microturn.runtime.bus import BusSettings
from microturn.runtime.worker_service import serve
from microturn.tools import ToolRegistry


class Slow:
    """Says one part, takes its time, and ends."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        say("engine", os.getpid(), control.attempt)
        await emit("partial", text=f"part of attempt {control.attempt}")
        await anyio.sleep(int(package.intent) / 1000)
        await emit("final", text=f"end of attempt {control.attempt}")


@asynccontextmanager
async def open_slow(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    yield Slow()


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(url: str, tenant: str, lease_s: float) -> None:
    settings = BusSettings(url, tenant=tenant, lease_s=lease_s, presence_s=0.1)
    await serve(
        settings,
        open_slow,
        ToolRegistry(),
        concurrency=1,
        urgent_lanes=0,
        on_ready=lambda: say("ready"),
        drain_on=DRAIN_SIGNALS,
    )


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]))
