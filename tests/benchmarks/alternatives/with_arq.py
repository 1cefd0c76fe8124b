"""The delegation through arq.

A worker looks for jobs every 10 ms instead of every 500. A job whose worker died is free after `job_timeout` and ten
seconds that cannot be changed; the timeout here is twice as long as a job takes. arq has no partial results, so the
pieces go over a stream of the user's, and results are not kept, which saves a write for each job; the end comes as the
last piece.
"""

# The library is in an environment of its own, where mypy does not look.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from arq import ArqRedis, Worker, create_pool, func
from arq.connections import RedisSettings
from redis.asyncio import Redis

from alternatives.program import run
from alternatives.trial import Piece
from alternatives.user_stream import connect, read_pieces, stream_pieces

LONGEST_S = 2
POLL_S = 0.01
AT_ONCE = 10


async def delegate(context: dict[str, Redis], key: str, package: str, pieces: int, pause_s: float) -> None:
    """The task."""
    await stream_pieces(context["stream"], key, pieces, pause_s)


async def run_worker(url: str) -> None:
    """Take tasks."""
    worker = Worker(
        [func(delegate, name="delegate", timeout=LONGEST_S, keep_result=0)],
        redis_settings=RedisSettings.from_dsn(url),
        poll_delay=POLL_S,
        max_jobs=AT_ONCE,
        job_timeout=LONGEST_S,
        ctx={"stream": connect(url)},
        handle_signals=False,
    )
    await worker.async_run()


class Caller:
    """Hands tasks over."""

    def __init__(self, pool: ArqRedis, redis: Redis, package: str) -> None:
        self._pool, self._redis, self._package = pool, redis, package

    async def submit(self, key: str, pieces: int, pause_s: float) -> None:
        await self._pool.enqueue_job("delegate", key, self._package, pieces, pause_s, _job_id=key)

    def listen(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[Piece]]:
        return read_pieces(self._redis, key)


@asynccontextmanager
async def open_caller(url: str, package: str) -> AsyncIterator[Caller]:
    """Open the connections."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    yield Caller(pool, connect(url), package)
    await pool.aclose()


if __name__ == "__main__":
    run(run_worker, open_caller)
