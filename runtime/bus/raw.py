"""The shapes of replies under protocol 2: text, numbers, None and lists of them. Knows nothing of tasks."""

from __future__ import annotations

from typing import cast

from microturn.runtime.bus.link import Argument, Link

Entry = tuple[str, dict[str, str]]
"""Id and fields of one entry of a stream."""


async def command(link: Link, *args: Argument, key: str | None = None) -> object:
    """Send one command; text, numbers, None and lists of them come back.

    Raises:
        redis.exceptions.RedisError: the server did not answer, or refused.
    """
    return await link.send(*args, key=key)


def entries_by_stream(reply: object) -> list[tuple[str, list[Entry]]]:
    """Read the reply of XREAD or XREADGROUP. An entry deleted since it was delivered has no fields."""
    streams: list[tuple[str, list[Entry]]] = []
    for name, items in cast("list[list[object]]", reply or []):
        pairs = cast("list[tuple[str, list[str] | None]]", items)
        streams.append((str(name), [(entry_id, fields_of(flat or [])) for entry_id, flat in pairs]))
    return streams


def fields_of(flat: list[str]) -> dict[str, str]:
    """Pair up `field, value, field, value`."""
    return dict(zip(flat[::2], flat[1::2], strict=False))
