"""What every message that crosses a process has in common: a version, and tolerance of newer fields."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from microturn.protocols._errors import ProtocolError, UnknownVersionError


class Message(BaseModel):
    """Base of the versioned messages.

    A new optional field raises the minor version and old readers ignore it; a change that an old reader would
    misread raises the major version, and the reader refuses it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    VERSION: ClassVar[str] = "1.0"
    v: str = VERSION

    @classmethod
    def decode(cls, data: str | bytes) -> Self:
        """Read a message from JSON.

        Raises:
            UnknownVersionError: its major version is not ours.
            ProtocolError: it is not valid. The text names the fields, never their values.
        """
        try:
            raw = from_json(data)
        except ValueError:
            raise ProtocolError(f"cannot read a {cls.__name__}: it is not JSON") from None
        got = str(raw.get("v", "")) if isinstance(raw, dict) else ""
        known = cls.VERSION.split(".")[0]
        if got.split(".")[0] != known:
            raise UnknownVersionError(cls.__name__, got=got, known=known)
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, e["loc"])) or "(whole)" for e in error.errors()}))
            raise ProtocolError(f"cannot read a {cls.__name__}: wrong or missing: {fields}") from None

    def encode(self) -> str:
        """Write the message as JSON, absent optional fields left out."""
        return self.model_dump_json(exclude_none=True)
