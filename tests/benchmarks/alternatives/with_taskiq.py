"""The delegation through taskiq with its stream broker for Redis, which acknowledges.

A message that is idle for 2 s is claimed by another worker, but only after a new message has been fetched. There is
no sign of life from a running task, so the idle time has to be longer than any task; here a task takes 1 s. Progress
of taskiq's own is a single value that is polled, so the pieces go over a stream of the user's. No result backend is
set, which saves a write for each task; the end comes as the last piece.
"""

# The library is in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found, untyped-decorator"

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from redis.asyncio import Redis
from taskiq import AsyncTaskiqDecoratedTask
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from alternatives.program import run
from alternatives.trial import Piece
from alternatives.user_stream import connect, read_pieces, stream_pieces

IDLE_MS = 2000
AT_ONCE = 10


def _broker(url: str) -> tuple[RedisStreamBroker, AsyncTaskiqDecoratedTask]:
    broker = RedisStreamBroker(
        url, consumer_id="0", idle_timeout=IDLE_MS, unacknowledged_lock_timeout=IDLE_MS / 1000
    )
    redis = connect(url)

    @broker.task(task_name="delegate")
    async def delegate(key: str, package: str, pieces: int, pause_s: float) -> None:
        await stream_pieces(redis, key, pieces, pause_s)

    return broker, delegate


async def run_worker(url: str) -> None:
    """Take tasks."""
    broker, _ = _broker(url)
    await run_receiver_task(broker, run_startup=True, max_async_tasks=AT_ONCE)


class Caller:
    """Hands tasks over."""

    def __init__(self, task: AsyncTaskiqDecoratedTask, redis: Redis, package: str) -> None:
        self._task, self._redis, self._package = task, redis, package

    async def submit(self, key: str, pieces: int, pause_s: float) -> None:
        await self._task.kiq(key, self._package, pieces, pause_s)

    def listen(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[Piece]]:
        return read_pieces(self._redis, key)


@asynccontextmanager
async def open_caller(url: str, package: str) -> AsyncIterator[Caller]:
    """Open the connections."""
    broker, task = _broker(url)
    await broker.startup()
    yield Caller(task, connect(url), package)
    await broker.shutdown()


if __name__ == "__main__":
    run(run_worker, open_caller)
