"""A worker whose only tool must not run twice, as a process that may die in the middle of it.

Usage: sending_program.py URL TENANT LEASE_S MODEL_URL FILE live|die. The tool adds a line to the file; with `die` the
process is gone right after it. It prints `ready`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from microturn.background_agent import LOCAL, AgentEngine, ChatClient, LoopEngine, ReflexEngine
from microturn.runtime.bus import BusSettings
from microturn.runtime.worker_service import serve
from microturn.tools import Phrase, Spoken, ToolRegistry, tool


async def main(url: str, tenant: str, lease_s: float, model_url: str, path: Path, mode: str) -> None:
    @tool(side_effect="unsafe", phrases=[Phrase("send {text}")])
    async def send_message(text: str) -> Spoken:
        """Send a message.

        Args:
            text: What it says.
        """
        with path.open("a") as sent:
            sent.write(f"{text}\n")
        if mode == "die":
            os._exit(7)
        return Spoken("It was sent.", "It is sent.")

    @asynccontextmanager
    async def opened(tools: ToolRegistry) -> AsyncIterator[AgentEngine]:
        async with LoopEngine(ChatClient(model_url, "m"), LOCAL, data_dir=path.parent) as engine:
            yield ReflexEngine(engine, data_dir=path.parent)

    def ready() -> None:
        os.write(1, b"ready\n")

    settings = BusSettings(url, tenant=tenant, lease_s=lease_s, presence_s=0.1)
    await serve(settings, opened, ToolRegistry([send_message]), on_ready=ready)


if __name__ == "__main__":
    url, tenant, lease, model_url, path, mode = sys.argv[1:]
    anyio.run(main, url, tenant, float(lease), model_url, Path(path), mode)
