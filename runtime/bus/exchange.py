"""Commands and their replies over redis-py's connections to one server.

Connecting, login, TLS, finding the primary, reading and repeating are redis-py's. Its own way from a command to the
reply takes twice as much of the processor: it packs word by word in Python, and starts a task for the time limit of
each write and a timer for that of each reply. Here hiredis packs, and one time limit holds for a whole exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import anyio
from hiredis import pack_command
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as ReplyTimeoutError

Argument: TypeAlias = str | int | bytes
"""One word of a command; bytes go as they are."""
Command: TypeAlias = tuple[Argument, ...]


async def exchange(pool: ConnectionPool, commands: Sequence[Command]) -> list[object]:
    """Send commands in one go and return their replies; in place of one there may be its error.

    Repeats after a failure as the pool's connections are told to, and gives up a reply after their `socket_timeout`.

    Raises:
        redis.exceptions.RedisError: the server did not answer; any of the commands may have been done.
    """
    packed = b"".join(map(_packed, commands))
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]  # because redis-py leaves it bare
    try:
        replies: list[object] = await connection.retry.call_with_retry(
            lambda: _exchange_once(connection, packed, len(commands)), lambda _: connection.disconnect()
        )
        return replies
    finally:
        await pool.release(connection)


async def _exchange_once(connection: AbstractConnection, packed: bytes, replies: int) -> list[object]:
    limit_s, connection.socket_timeout = connection.socket_timeout, None
    try:
        with anyio.fail_after(limit_s):
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in range(replies)]
    except TimeoutError:
        raise ReplyTimeoutError("the server did not answer in time") from None
    finally:
        connection.socket_timeout = limit_s


async def _reply(connection: AbstractConnection) -> object:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _packed(command: Command) -> bytes:
    try:
        return bytes(pack_command(command))  # type: ignore[arg-type]  # because hiredis says that it takes one word
    except UnicodeEncodeError:  # half a character: what cannot be told is replaced, as redis-py does
        words = tuple(
            word if isinstance(word, bytes) else str(word).encode("utf-8", "replace") for word in command
        )
        return bytes(pack_command(words))  # type: ignore[arg-type]  # as above
