"""A worker as a process of its own, whose one tool asks before it acts, for tests that end it in between.

Usage: python -m tests.runtime.asking_program URL TENANT LEASE_S FILE. It prints `ready`. Each call of the tool adds a line to
the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from microturn.background_agent import AgentEngine, Control, Emit
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.bus import BusSettings
from microturn.runtime.worker_service import serve
from microturn.tools import ToolRegistry, tool
from tests.background_agent.stand_ins import resume_or_call


class Sends:
    """Takes up what an earlier attempt left, or calls the tool; says what came of it."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        outcomes = await resume_or_call(package, tools, emit, control, [("send_it", {"to": "Bob"})])
        said = "It was not sent." if outcomes[-1].is_error else "It is sent."
        await emit("final", speech=Speech(text=said), text=said)


@asynccontextmanager
async def open_engine(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
    yield Sends()


def say_ready() -> None:
    os.write(1, b"ready\n")


async def main(url: str, tenant: str, lease_s: float, path: Path) -> None:
    @tool(side_effect="unsafe", approval="Shall I send it to {to}?")
    async def send_it(to: str) -> str:
        """Send it."""
        with path.open("a") as file:
            file.write(f"{to}\n")
        return "sent"

    await serve(
        BusSettings(url, tenant=tenant, lease_s=lease_s, presence_s=0.1),
        open_engine,
        ToolRegistry([send_it]),
        concurrency=1,
        urgent_lanes=0,
        on_ready=say_ready,
    )


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
