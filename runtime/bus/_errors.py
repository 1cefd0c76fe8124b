"""Errors of the delegation bus.

MicroturnError
├── UserError
│   ├── BusNameError            a tenant, runtime, worker or task name that cannot be part of a key
│   ├── PackageTooLargeError    a package or an event is larger than the bus carries
│   └── UnfitServerError        the server answers, but would lose what it is given: too old, or evicting
└── UnavailableError
    ├── BusUnreachableError     no server answers at the address
    ├── QueueFullError          the queue of tasks is at its limit, or the server's memory is
    ├── BusReplyError           the server refused a command that should work
    └── EmbeddedServerError     the built-in server could not be had
        ├── ServerBinaryMissingError
        ├── DataDirLockedError
        └── ServerDiedError

A URL in a message has lost its user name and password; no message holds anything that was said.
"""

from __future__ import annotations

from microturn.protocols import UnavailableError, UserError


class BusNameError(UserError):
    """A name cannot be part of a key."""

    def __init__(self, what: str, got: str) -> None:
        super().__init__(
            f"cannot use {got[:80]!r} as a {what}: expected 1 to 200 letters, digits or any of '_', '-', '.'; "
            f"choose another {what}"
        )


class PackageTooLargeError(UserError):
    """A package or an event is larger than the bus carries."""

    def __init__(self, what: str, *, size: int, limit: int) -> None:
        super().__init__(
            f"cannot send a {what} of {size} bytes: the limit is {limit}; send sound, pictures and long texts by "
            "reference"
        )


class UnfitServerError(UserError):
    """The server answers, but would lose what it is given."""


class BusUnreachableError(UnavailableError):
    """No server answers at the address."""


class QueueFullError(UnavailableError):
    """The queue takes no more tasks now. The task was not accepted and will not run."""


class BusReplyError(UnavailableError):
    """The server refused a command that should work, for example for want of permission."""


class EmbeddedServerError(UnavailableError):
    """The built-in server could not be had."""


class ServerBinaryMissingError(EmbeddedServerError):
    """There is no server program on this machine."""


class DataDirLockedError(EmbeddedServerError):
    """Another process holds the data folder, and no server answers in it."""


class ServerDiedError(EmbeddedServerError):
    """The server ended before it answered."""
