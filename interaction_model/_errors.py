"""Errors of the interaction models.

MicroturnError
├── UserError
│   ├── BadSoundError           sound of the wrong type, shape or range was handed in
│   └── BadExemplarsError       a table of exemplars or replies cannot be used
├── UnavailableError
│   ├── SpeechExtraMissingError a package of the extra `speech` is not installed
│   ├── WeightsMismatchError    a weight file is not the one that this code was written for
│   └── WorkerClosedError       work was handed to a worker that has ended
└── WorkFailedError             a background computation of a model raised
"""

from __future__ import annotations

from microturn.protocols import MicroturnError, UnavailableError, UserError


class BadSoundError(UserError):
    """Sound of the wrong type, shape or range was handed in."""


class BadExemplarsError(UserError):
    """A table of exemplars or replies cannot be used."""


class SpeechExtraMissingError(UnavailableError):
    """A package of the extra `speech` is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"tried to load the package {package!r} and did not find it; "
            "install the speech parts with: pip install 'microturn[speech]'"
        )
        self.package = package


class WeightsMismatchError(UnavailableError):
    """A weight file is not the one that this code was written for."""

    def __init__(self, what: str, *, expected: str, got: str) -> None:
        super().__init__(
            f"the weights of {what} do not fit: expected {expected}, got {got}; "
            "install the versions that 'microturn[speech]' pins"
        )


class WorkerClosedError(UnavailableError):
    """Work was handed to a worker that has ended."""


class WorkFailedError(MicroturnError):
    """A background computation of a model raised; the cause is chained, its text is not repeated."""
