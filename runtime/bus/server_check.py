"""A look at a server before it is trusted with tasks: its kind, its age, and whether it would lose any."""

from __future__ import annotations

import logging
import re

from redis.exceptions import AuthenticationError, AuthorizationError, InvalidResponse, ResponseError

from microturn.runtime.bus._errors import BusReplyError, BusUnreachableError, UnfitServerError
from microturn.runtime.bus.address import address_of
from microturn.runtime.bus.link import Link
from microturn.runtime.bus.server_errors import TRANSIENT

OLDEST = (7, 0)
"""Oldest server whose groups report their lag and forget what was deleted. Valkey calls itself 7.2.4 or later."""
_KEEPS_KEYS = re.compile(r"noeviction|volatile-.*")
_LOGIN = (AuthenticationError, AuthorizationError)
"""What redis-py raises, or hides behind a ConnectionError, when a login is refused."""

_log = logging.getLogger(__name__)


async def check_server(link: Link, url: str) -> None:
    """Refuse a server that would lose tasks; warn where a crash of it would. Looks at each primary of a cluster.

    Raises:
        BusUnreachableError: nothing answers at the address.
        BusReplyError: it answers, but not to us.
        UnfitServerError: it is no Redis server, too old, or evicts keys when its memory is full.
    """
    where = address_of(url)
    try:
        infos = await link.each_primary("INFO")
    except InvalidResponse:
        raise UnfitServerError(
            f"cannot use the server at {where}: it does not speak the Redis protocol; correct the URL, or leave it out "
            "to use the built-in server"
        ) from None
    except TRANSIENT as error:
        if isinstance(error, _LOGIN) or isinstance(error.__cause__, _LOGIN):
            raise BusReplyError(
                f"the Redis server at {where} refused the login; check the user and password in the URL"
            ) from None
        raise BusUnreachableError(
            f"no Redis server answers at {where} ({type(error).__name__}); start one there, correct the URL, or leave "
            "the URL out to use the built-in server"
        ) from None
    except ResponseError as error:
        raise BusReplyError(f"the Redis server at {where} refused INFO ({type(error).__name__})") from None
    for name, text in infos.items():
        check_info(_parse_info(str(text)), f"{where} ({name})" if name else where)


def check_info(info: dict[str, str], where: str) -> None:
    """Judge a server by what INFO says of it.

    Raises:
        UnfitServerError: it is too old, or evicts keys when its memory is full.
    """
    version = info.get("redis_version", "0")
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise UnfitServerError(
            f"cannot use the server at {where}: it is Redis {version}, expected 7.0 or later, or Valkey; older ones "
            "cannot clear up after a worker that died"
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if _KEEPS_KEYS.fullmatch(policy) is None:
        raise UnfitServerError(
            f"cannot use the server at {where}: its maxmemory-policy is {policy!r}, which would delete waiting tasks "
            "when memory is short; set it to 'noeviction'"
        )
    if info.get("aof_enabled") == "0":
        _log.warning(
            "The server at %s keeps no append-only file: if it dies, delegated tasks are lost.", where
        )


def _parse_info(text: str) -> dict[str, str]:
    lines = (line.strip() for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in (line.partition(":") for line in lines)}
