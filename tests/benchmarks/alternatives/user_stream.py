"""Partial results over a stream of Redis, as a user has to write it where a job queue has none.

One stream for each task: the worker adds, the caller reads from the beginning and deletes it at the end. Nothing is
lost while the caller is away; nothing tells an old attempt from a new one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import cast

from redis.asyncio import Redis

from alternatives.program import work
from alternatives.trial import Piece

KEPT_S = 60


def connect(url: str) -> Redis:
    """A client whose replies have one shape in every release of redis-py."""
    return Redis.from_url(url, protocol=2, decode_responses=True, socket_timeout=None)


async def stream_pieces(redis: Redis, key: str, pieces: int, pause_s: float) -> None:
    """Do the work of a task and send its pieces."""
    async for piece in work(pieces, pause_s):
        await redis.xadd(_name(key), {"piece": json.dumps(asdict(piece))})
        if piece.is_end:
            await redis.expire(_name(key), KEPT_S)


@asynccontextmanager
async def read_pieces(redis: Redis, key: str) -> AsyncIterator[AsyncIterator[Piece]]:
    """The pieces of a task, from the beginning."""
    try:
        yield _pieces(redis, key)
    finally:
        await redis.delete(_name(key))


async def _pieces(redis: Redis, key: str) -> AsyncIterator[Piece]:
    last = "0-0"
    while True:
        reply = await redis.xread({_name(key): last}, count=100, block=1000)
        for _, entries in cast("list[tuple[str, list[tuple[str, dict[str, str]]]]]", reply):
            for entry_id, fields in entries:
                last = entry_id
                yield Piece(**json.loads(fields["piece"]))


def _name(key: str) -> str:
    return f"pieces:{key}"
