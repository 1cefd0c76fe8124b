"""Errors of the delegation bus.

MicroturnError
├── UserError
│   ├── BusAddressError         a URL that names no server, cluster or service
│   ├── BusNameError            a tenant, runtime, worker or task name that cannot be part of a key
│   ├── PackageTooLargeError    a package or an event is larger than the bus carries
│   ├── RuntimeIdTakenError     another live process has this runtime id
│   ├── UnfitServerError        the server answers, but would lose what it is given: too old, or evicting
│   ├── UnknownDeadLetterError  no task of that name was given up, or several begin so
│   ├── UnknownSessionError     no session of that name is remembered
│   ├── UnrepeatableTaskError   a task that was given up cannot be handed over again
│   └── UnfitSettingsError      another process has laid the bus out otherwise
└── UnavailableError
    ├── BusUnreachableError     no server answers at the address
    ├── SessionTakenError       another process has taken the session over
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


class BusAddressError(UserError):
    """A URL names no server, cluster or service."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(
            f"cannot use {where!r} as the address of the bus: {what}; expected redis://HOST:PORT, rediss://HOST:PORT, "
            "unix:///PATH, redis+cluster://HOST:PORT,HOST:PORT or redis+sentinel://HOST:PORT,HOST:PORT/SERVICE; correct "
            "it, or leave it out to use the built-in server"
        )


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


class UnfitSettingsError(UserError):
    """Another process has laid the bus out otherwise."""


class RuntimeIdTakenError(UserError):
    """Another live process has this runtime id; both would say what comes."""

    def __init__(self, runtime_id: str) -> None:
        super().__init__(
            f"cannot open a port as runtime {runtime_id!r}: another live process has this id; end that process, choose "
            "another id, or leave it out to get a new one"
        )


class UnknownDeadLetterError(UserError):
    """No task of that name was given up, or several begin so."""

    def __init__(self, name: str, matches: int) -> None:
        found = f"{matches} of them begin so; give more of the id" if matches else "none begins so"
        super().__init__(
            f"cannot find {name[:80]!r} among the tasks that were given up: {found}; `microturn dead list` names them"
        )


class UnrepeatableTaskError(UserError):
    """A task that was given up cannot be handed over again."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(
            f"cannot try the task {task_id[:80]!r} again: {why}, so nobody would hear its answer; look at it with "
            "`microturn dead show`, or delete it with `microturn dead drop`"
        )


class UnknownSessionError(UserError):
    """No session of that name is remembered."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"cannot find the session {session_id[:80]!r}: it was never begun on this bus, or has been silent for "
            "longer than sessions are remembered; check its name and the tenant, or begin it anew"
        )


class SessionTakenError(UnavailableError):
    """Another process has taken the session over, and this one may no longer speak for it."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"cannot go on with the session {session_id[:80]!r}: another process has taken it over; reopen it here "
            "if the client is here"
        )


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
