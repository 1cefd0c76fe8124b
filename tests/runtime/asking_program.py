"""A worker as a process of its own, whose one tool asks before it acts, for tests that end it in between.

Usage: asking_program.py URL TENANT LEASE_S FILE. It prints `ready`. Each call of the tool adds a line to the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from microturn.background_agent import AgentEngine, Control, Emit
from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.journal import Journal
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.tool_runner import ToolRunner
from microturn.background_agent.transcript import Call
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.bus import BusSettings
from microturn.runtime.worker_service import serve
from microturn.tools import ToolRegistry, tool


class Sends:
    """Takes up what an earlier attempt left, or calls the tool; says what came of it."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        journal = Journal.read(control.emitted, control.revision)
        with TemporaryDirectory() as folder:
            runner = ToolRunner(
                package,
                tools,
                emit,
                narrator=Narrator(package.task_id, emit, control),
                guard=EffectGuard(package),
                data_dir=Path(folder),
                journal=journal,
                control=control,
                clock=WorkClock(),
            )
            outcomes = await runner.resume()
            if not outcomes:
                call = Call(journal.next_index, "send_it", {"to": "Bob"})
                outcomes = [outcome for outcome, _ in await runner.run([call])]
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
