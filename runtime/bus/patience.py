"""How a server that is away is waited for: growing pauses, and the call that is repeated until it is answered."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from redis.exceptions import RedisError

from microturn.runtime.bus.server_errors import TRANSIENT, refused

Result = TypeVar("Result")


class Backoff:
    """Growing, jittered pauses between attempts to reach a server that is away."""

    def __init__(self, *, first_s: float = 0.03, most_s: float = 0.5) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def pause_s(self) -> float:
        """How long to wait now: half to all of a span that doubles with every call."""
        span, self._next_s = self._next_s, min(self._most_s, self._next_s * 2)
        return span * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: the server answered."""
        self._next_s = self._first_s


async def until_answered(
    ask: Callable[[], Awaitable[Result]], doing: str, transient: tuple[type[RedisError], ...] = TRANSIENT
) -> Result:
    """Ask again while the server is away. The limit of time is the caller's.

    Args:
        ask: one call, safe to repeat.
        doing: what is done, in words for the error.
        transient: the errors after which it is asked again.

    Raises:
        BusReplyError: the server refused for a reason that repeating cannot mend.
    """
    backoff = Backoff()
    while True:
        try:
            return await ask()
        except transient:
            await anyio.sleep(backoff.pause_s())
        except RedisError as error:
            raise refused(doing, error) from error
