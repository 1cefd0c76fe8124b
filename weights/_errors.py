"""Errors of the weight files.

MicroturnError
├── UserError
│   └── UnknownWeightError       no weight file of that name is known
└── UnavailableError
    └── WeightError              a weight file cannot be had
        ├── WeightMissingError   it is not on this machine, or no source gave it
        ├── WeightVersionError   a package that should carry it is installed in a version without it
        ├── WeightCorruptError   bytes are there, and they are not the pinned ones
        └── WeightSourceError    one source could not give it; another may
"""

from __future__ import annotations

from collections.abc import Iterable

from microturn.protocols import UnavailableError, UserError


class UnknownWeightError(UserError):
    """A weight file was asked for by a name that is not in the catalogue."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no weight file is called {name!r}; known are: {', '.join(sorted(known))}")


class WeightError(UnavailableError):
    """A weight file cannot be had."""


class WeightMissingError(WeightError):
    """A weight file is not on this machine; the text says how to get it."""


class WeightVersionError(WeightError):
    """The package that should carry the file is installed in a version that does not."""


class WeightCorruptError(WeightError):
    """A file is there whose bytes are not the pinned ones."""


class WeightSourceError(WeightError):
    """One source could not give the file."""
