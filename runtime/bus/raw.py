"""The shapes of replies under protocol 2: text, numbers, None and lists of them. Knows nothing of tasks."""

from __future__ import annotations

from typing import cast

from redis.exceptions import InvalidResponse

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
