"""Errors of the whole project have one root; those of the messages stand here too.

MicroturnError                  everything that this project raises on purpose
├── UserError                   the caller can mend it: an argument, a file, a setting
├── UnavailableError            a peer, a package or a weight is not there now
└── ProtocolError               a message that this version cannot read
    └── UnknownVersionError     its major version is another one
"""

from __future__ import annotations


class MicroturnError(Exception):
    """Root of every error raised on purpose; its text never holds what a user said."""


class UserError(MicroturnError):
    """The caller asked for something that cannot be; the text says what to change."""


class UnavailableError(MicroturnError):
    """A peer, a package or a weight is missing or does not answer; the text says how to get it."""


class ProtocolError(MicroturnError):
    """A message could not be read."""


class UnknownVersionError(ProtocolError):
    """A message has a major version that this code does not know."""

    def __init__(self, message: str, *, got: str, known: str) -> None:
        super().__init__(
            f"cannot read a {message} of version {got!r}: this process knows major version {known!r}; "
            "run the same release of microturn on both sides"
        )
        self.got = got
        self.known = known
