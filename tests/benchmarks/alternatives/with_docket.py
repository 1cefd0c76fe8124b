"""The delegation through pydocket, whose own progress carries the pieces over publish and subscribe.

A worker renews its tasks four times in the redelivery timeout of 2 s, and looks every 10 ms instead of every 250,
because one that was full does not look earlier. The caller subscribes before it hands the task
over, since what is published earlier is lost, and that is not counted in its times. The function returns nothing, so
no result is stored; the end comes as the last piece. The progress is taken from the execution: in this release, the
`Progress` that a function may ask for is one object for all tasks of a worker, and pieces go to the wrong caller.
"""

# The library is in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from datetime import timedelta

from docket import CurrentExecution, Docket, Execution, Worker
from docket.execution import ExecutionProgress

from alternatives.program import run, work
from alternatives.trial import Piece

LEASE = timedelta(seconds=2)
CHECK_EVERY = timedelta(milliseconds=10)
AT_ONCE = 10


async def delegate(
    package: str,
    pieces: int,
    pause_s: float,
    execution: Execution = CurrentExecution(),  # noqa: B008  # the library's way of asking for it
) -> None:
    """The task."""
    async for piece in work(pieces, pause_s):
        await execution.progress.set_message(json.dumps(asdict(piece)))


async def run_worker(url: str) -> None:
    """Take tasks."""
    async with Docket("bench", url) as docket:
        docket.register(delegate)
        async with Worker(
            docket, redelivery_timeout=LEASE, minimum_check_interval=CHECK_EVERY, concurrency=AT_ONCE
        ) as worker:
            await worker.run_forever()


class Caller:
    """Hands tasks over."""

    def __init__(self, docket: Docket, package: str) -> None:
        self._docket, self._package = docket, package

    async def submit(self, key: str, pieces: int, pause_s: float) -> None:
        await self._docket.add(delegate, key=key)(self._package, pieces, pause_s)

    @asynccontextmanager
    async def listen(self, key: str) -> AsyncIterator[AsyncIterator[Piece]]:
        ready, heard = asyncio.Event(), asyncio.Queue[Piece]()
        hearing = asyncio.create_task(self._hear(key, ready, heard))
        await ready.wait()
        try:
            yield _taken(heard)
        finally:
            hearing.cancel()

    async def _hear(self, key: str, ready: asyncio.Event, heard: asyncio.Queue[Piece]) -> None:
        async with aclosing(ExecutionProgress(self._docket, key).subscribe(ready=ready)) as events:
            async for event in events:
                if event["message"] is not None:
                    heard.put_nowait(Piece(**json.loads(event["message"])))


async def _taken(heard: asyncio.Queue[Piece]) -> AsyncIterator[Piece]:
    while True:
        yield await heard.get()


@asynccontextmanager
async def open_caller(url: str, package: str) -> AsyncIterator[Caller]:
    """Open the connections."""
    async with Docket("bench", url) as docket:
        docket.register(delegate)
        yield Caller(docket, package)


if __name__ == "__main__":
    run(run_worker, open_caller)
