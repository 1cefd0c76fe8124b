"""The delegation through our own bus and worker, with the settings that they have unless told otherwise: lease 2 s."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, cast

from alternatives.program import run, work
from alternatives.trial import Piece
from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.worker import Worker
from microturn.protocols import ContextPackage, DelegationEvent, Speech
from microturn.runtime.bus import BusSettings, DelegationPort, open_delegation_port, open_worker_port
from microturn.tools import ToolRegistry

TENANT = "comparison"
AT_ONCE = 10


class Streaming:
    """An engine that sends what is asked for; goes on where an earlier attempt was."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """The task; the intent is the number of pieces and the pause in seconds."""
        pieces, pause_s = package.intent.split()
        done = sum(event.kind == "partial" for event in control.emitted)
        async for piece in work(int(pieces), float(pause_s), first=done):
            detail = asdict(piece) | {"text": ""}
            if piece.is_end:
                await emit("final", detail=detail)
            else:
                await emit("partial", speech=Speech(text=piece.text), detail=detail)


async def run_worker(url: str) -> None:
    """Take tasks."""
    settings = BusSettings(url, tenant=TENANT)
    async with open_worker_port(settings) as port:
        await Worker(port, Streaming(), ToolRegistry(), concurrency=AT_ONCE, lease_s=settings.lease_s).run()


class Caller:
    """Hands tasks over, and lays each event before the one who listens."""

    def __init__(self, port: DelegationPort, package: ContextPackage) -> None:
        self._port, self._package = port, package
        self._listeners: dict[str, asyncio.Queue[DelegationEvent]] = {}

    async def submit(self, key: str, pieces: int, pause_s: float) -> None:
        changes = {"task_id": key, "idempotency_key": key, "session_id": key, "intent": f"{pieces} {pause_s}"}
        if not self._port.submit_nowait(self._package.model_copy(update=changes)):
            raise RuntimeError("the outbox is full: hand over fewer tasks at a time")

    @asynccontextmanager
    async def listen(self, key: str) -> AsyncIterator[AsyncIterator[Piece]]:
        self._listeners[key] = asyncio.Queue()
        try:
            yield self._pieces(key)
        finally:
            del self._listeners[key]

    async def read(self) -> None:
        """Read the inbox until cancelled."""
        async for event in self._port.events():
            if isinstance(event, DelegationEvent):
                self._port.acknowledge_nowait(event.task_id, event.seq)
                if event.task_id in self._listeners:
                    self._listeners[event.task_id].put_nowait(event)

    async def _pieces(self, key: str) -> AsyncIterator[Piece]:
        while True:
            event = await self._listeners[key].get()
            if event.kind in ("partial", "final"):
                yield Piece(**cast("dict[str, Any]", event.detail))


@asynccontextmanager
async def open_caller(url: str, package: str) -> AsyncIterator[Caller]:
    """Open the port."""
    async with open_delegation_port(BusSettings(url, tenant=TENANT)) as port:
        caller = Caller(port, ContextPackage.decode(package))
        reading = asyncio.create_task(caller.read())
        yield caller
        reading.cancel()


if __name__ == "__main__":
    run(run_worker, open_caller)
