"""Errors of the background agent.

MicroturnError
├── UserError
│   └── ModelRequestError       the model server refused the request as such: key, model name, request
└── UnavailableError
    ├── ModelError              a model server failed; carries what it had said so far
    │   ├── ModelDownError      it cannot be reached, or says that it is overloaded or broken
    │   ├── ModelSlowError      it sent nothing for too long
    │   └── ModelBrokeOffError  it stopped in mid-stream, with neither a finish reason nor an end mark
    └── LocalModelError         the local model server could not be started, or died

No text of a user or of a model is ever part of a message; nor is a key.
"""

from __future__ import annotations

from microturn.protocols import UnavailableError, UserError


class ModelRequestError(UserError):
    """A model server refused a request for a reason that repeating it cannot mend."""


class ModelError(UnavailableError):
    """A model server failed."""

    def __init__(self, message: str, *, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial
        """What the model had said before it failed; empty where it had said nothing."""


class ModelDownError(ModelError):
    """A model server cannot be reached, or says that it cannot serve now."""


class ModelSlowError(ModelError):
    """A model server sent nothing within the limit."""


class ModelBrokeOffError(ModelError):
    """A model server ended its stream before the answer was finished."""


class LocalModelError(UnavailableError):
    """The local model server could not be started, or is gone."""
