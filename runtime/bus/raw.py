"""The shapes of replies under protocol 2: text, numbers, None and lists of them. Knows nothing of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import anyio
from redis.exceptions import InvalidResponse

from microturn.runtime.bus.connection import LONGEST_READ_S
from microturn.runtime.bus.exchange import Argument
from microturn.runtime.bus.link import Link

Entry = tuple[str, dict[str, str]]
"""Id and fields of one entry of a stream."""


async def command(link: Link, *args: Argument, key: str | None = None) -> object:
    """Send one command; text, numbers, None and lists of them come back.

    Raises:
        redis.exceptions.RedisError: the server did not answer, or refused.
    """
    return await link.send(*args, key=key)


async def read_streams(
    link: Link, last_ids: Mapping[str, str], *, patience_s: float, count: int | None = None
) -> list[tuple[str, list[Entry]]]:
    """Wait for entries of streams that one server has, `LONGEST_READ_S` at most; what comes back may be empty.

    Args:
        link: A client for reads that wait.
        last_ids: What is read of each stream is what follows this id.
        patience_s: How long the answer may take beyond the wait.
        count: Most entries of one stream; as many as there are without.

    Raises:
        TimeoutError: there was no answer in time.
        redis.exceptions.RedisError: the server did not answer, or refused.
    """
    limit = () if count is None else ("COUNT", count)
    with anyio.fail_after(LONGEST_READ_S + patience_s):
        reply = await command(
            link,
            *("XREAD", *limit, "BLOCK", round(LONGEST_READ_S * 1000)),
            *("STREAMS", *last_ids, *last_ids.values()),
            key=next(iter(last_ids)),
        )
    return entries_by_stream(reply)


def entries_by_stream(reply: object) -> list[tuple[str, list[Entry]]]:
    """Read the reply of XREAD or XREADGROUP. An entry deleted since it was delivered has no fields.

    Raises:
        redis.exceptions.InvalidResponse: it has another shape.
    """
    try:
        return [
            (str(name), [(str(entry_id), fields_of(flat or [])) for entry_id, flat in items])
            for name, items in cast("list[tuple[str, list[tuple[str, list[str] | None]]]]", reply or [])
        ]
    except (TypeError, ValueError):
        raise InvalidResponse("a read of streams was answered with something else than streams") from None


def fields_of(flat: list[str]) -> dict[str, str]:
    """Pair up `field, value, field, value`."""
    return dict(zip(flat[::2], flat[1::2], strict=False))
