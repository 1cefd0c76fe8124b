"""A worker of ours that does what a package's intent says: `python delegation_worker.py URL TENANT AT_ONCE LEASE_S`.

Intents: `hold` says that it has begun and runs until its deadline; `mark` ends at once; `flood COUNT` sends so many
partials as fast as it can; `trickle PER_S` says that it has begun and sends partials at random times, so many a
second, until its deadline. Every event says in its detail when it was made; partials of a trickle are numbered over
all tasks of the worker.
"""

from __future__ import annotations

import itertools
import random
import sys
import time

import anyio
from alternatives.trial import SPOKEN
from child import ready

from microturn.background_agent.engine import Control, Emit
from microturn.background_agent.worker import BACKLOG_LIMIT, Worker
from microturn.protocols import ContextPackage, Speech
from microturn.runtime.bus import BusSettings, open_worker_port
from microturn.tools import ToolRegistry


class Obedient:
    """An engine that does what the intent says."""

    def __init__(self) -> None:
        self._marks = itertools.count()

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do it."""
        begun_s = time.monotonic()
        what, _, number = package.intent.partition(" ")
        if what in ("hold", "trickle"):
            await emit("progress", detail={"begun_s": begun_s})
        match what:
            case "hold":
                await anyio.sleep_forever()
            case "flood":
                for _ in range(int(number)):
                    await emit("partial", speech=Speech(text=SPOKEN))
            case "trickle":
                await self._trickle(emit, float(number))
        await emit("final", detail={"begun_s": begun_s})

    async def _trickle(self, emit: Emit, per_s: float) -> None:
        while True:
            await anyio.sleep(random.expovariate(per_s))
            mark, emitted_s = next(self._marks), time.monotonic()
            await emit("partial", speech=Speech(text=SPOKEN), detail={"mark": mark, "emitted_s": emitted_s})


async def main(url: str, tenant: str, at_once: int, lease_s: float) -> None:
    """Take tasks until killed."""
    async with open_worker_port(BusSettings(url, tenant=tenant, lease_s=lease_s)) as port:
        ready()
        await Worker(
            port,
            Obedient(),
            ToolRegistry(),
            concurrency=at_once,
            lease_s=lease_s,
            backlog_limit=BACKLOG_LIMIT
            + 2 * at_once,  # thousands of tasks that begin are no reader that is slow
        ).run()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
