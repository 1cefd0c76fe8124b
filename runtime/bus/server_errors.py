"""What the errors of a Redis server mean: which of them mend themselves, and what a caller is told of the others."""

from __future__ import annotations

from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from microturn.runtime.bus._errors import BusReplyError, BusUnreachableError


class StorageError(ConnectionError):
    """The server takes no writes as it cannot store them: its disk is full, say, or it has lost its replicas.

    It goes on by itself once it can.
    """


TRANSIENT = (
    ConnectionError,
    TimeoutError,
    ReadOnlyError,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
    InvalidResponse,
)
"""Errors that mend themselves: the server is away, starts, hands over to another, or was not understood."""


def is_unstorable(error: ResponseError) -> bool:
    """Whether the server says that it cannot store what is written, for which redis-py has no name."""
    return str(error).startswith(("MISCONF", "NOREPLICAS"))


def failed(doing: str, error: RedisError) -> BusReplyError | BusUnreachableError:
    """Make an error of ours for a caller who does not repeat."""
    if isinstance(error, TRANSIENT):
        return BusUnreachableError(
            f"cannot {doing}: the Redis server does not answer ({type(error).__name__}); see whether it runs"
        )
    return refused(doing, error)


def is_spoilt(error: RedisError) -> bool:
    """Whether a record is not what a script takes it for, as one that a foreign hand has written to.

    The same call would be refused for ever. All else mends: a missing right is given, a full memory drained.
    """
    text = str(error)
    return isinstance(error, ResponseError) and (
        text.startswith(("WRONGTYPE", "user_script")) or "is not an integer" in text
    )


def refused(doing: str, error: RedisError) -> BusReplyError:
    """Make an error of ours from one that repeating cannot mend; the server's own words may hold data."""
    return BusReplyError(
        f"the Redis server refused to {doing} ({type(error).__name__}); see the server's log"
    )
