"""The agreement of all processes of a bus on how many shards it has. A session's shard depends on that number."""

from __future__ import annotations

from redis.exceptions import RedisError

from microturn.runtime.bus._errors import UnfitSettingsError
from microturn.runtime.bus.keys import Keys
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.raw import command
from microturn.runtime.bus.server_errors import failed


async def agree_on_layout(link: Link, keys: Keys) -> None:
    """Take the number of shards that the first process has set; the first one sets it.

    Raises:
        UnfitSettingsError: the bus is spread over another number of shards.
        BusUnreachableError: the server does not answer.
        BusReplyError: the server refused.
    """
    key = keys.layout()
    try:
        agreed = await command(link, "GET", key, key=key)
        if agreed is None:  # otherwise nothing is written, which a server whose memory is full would refuse
            await command(link, "SET", key, keys.shards, "NX", key=key)
            agreed = await command(link, "GET", key, key=key)
    except RedisError as error:
        raise failed("agree on the number of shards", error) from error
    if agreed != str(keys.shards):
        raise UnfitSettingsError(
            f"cannot take part in the bus of tenant {keys.tenant!r} with shards={keys.shards}: it is spread over "
            f"{agreed} shards; give every process that number, or use another tenant for the new one"
        )
