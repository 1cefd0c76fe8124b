"""The two programs that each library is run as: `python -m alternatives.with_X worker|caller URL PACKAGE`.

Both print `ready` and end when their standard input does. The caller reads an `Order` from each line, hands the tasks
over, and answers with a line of trials; before that, a line `first PID` tells which worker sent the first piece, so
that it can be killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from alternatives.trial import Order, Piece, Trial


class Caller(Protocol):
    """Hands tasks over and hears of them."""

    async def submit(self, key: str, pieces: int, pause_s: float) -> None:
        """Hand a task over; `key` names it."""

    def listen(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[Piece]]:
        """What comes of a task, from the start; opened before it is handed over."""


OpenCaller = Callable[[str, str], AbstractAsyncContextManager[Caller]]
"""Takes the URL of the server and the package."""


async def work(pieces: int, pause_s: float, *, first: int = 0) -> AsyncIterator[Piece]:
    """The work of a task: its pieces and the end, each to be sent when it comes."""
    begun_s = time.monotonic()
    for number in range(first, pieces):
        yield Piece(number, begun_s, time.monotonic(), os.getpid())
        await asyncio.sleep(pause_s)
    yield Piece(pieces, begun_s, time.monotonic(), os.getpid(), is_end=True, text="")


def run(run_worker: Callable[[str], Awaitable[None]], open_caller: OpenCaller) -> None:
    """Be the program that the command line asks for."""
    role, url, package = sys.argv[1:4]
    if role == "worker":
        threading.Thread(target=_end_with_input, daemon=True).start()
        asyncio.run(_work(run_worker, url))
    else:
        asyncio.run(_call(open_caller, url, Path(package).read_text("utf-8")))


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


async def _work(run_worker: Callable[[str], Awaitable[None]], url: str) -> None:
    say("ready")
    await run_worker(url)


async def _call(open_caller: OpenCaller, url: str, package: str) -> None:
    async with open_caller(url, package) as caller:
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            trials = await _carry_out(caller, Order.decode(line))
            say(json.dumps([asdict(trial) for trial in trials]))


async def _carry_out(caller: Caller, order: Order) -> list[Trial]:
    room = asyncio.Semaphore(order.at_once)

    async def next_one() -> Trial:
        async with room:
            if order.at_once == 1:
                await asyncio.sleep(random.uniform(0.001, 0.006))  # so that no two steps fall into one beat
            return await _hand_over(caller, order)

    return list(await asyncio.gather(*(next_one() for _ in range(order.tasks))))


async def _hand_over(caller: Caller, order: Order) -> Trial:
    trial, key = Trial(), uuid4().hex
    nudging = asyncio.create_task(_nudge(caller, order.nudge_s)) if order.nudge_s else None
    try:
        async with asyncio.timeout(order.within_s), caller.listen(key) as pieces:
            trial.submitted_s = time.monotonic()
            await caller.submit(key, order.pieces, order.pause_s)
            await _hear_out(pieces, trial)
    except TimeoutError:
        pass  # the trial says that it has no end
    finally:
        if nudging is not None:
            nudging.cancel()
    return trial


async def _hear_out(pieces: AsyncIterator[Piece], trial: Trial) -> None:
    async for piece in pieces:
        trial.take(piece, time.monotonic())
        if piece.number == 0 and len(trial.numbers) == 1:
            say(f"first {piece.pid}")
        if piece.is_end:
            return


async def _nudge(caller: Caller, every_s: float) -> None:
    """Hand over small tasks of which nobody hears, as other users would."""
    while True:
        await asyncio.sleep(every_s)
        await caller.submit(uuid4().hex, 0, 0.0)
