"""What has happened in one run so far, in words that belong to no model's interface.

Knows nothing of how a model is asked; a dialect turns it into messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool that the model asked for."""

    index: int
    """Its number in the task, counted from 0; the same in a repeated attempt."""
    tool: str
    arguments: dict[str, JsonValue]
    fault: str | None = None
    """Why the call cannot be made, where the model wrote it wrongly."""

    @property
    def call_id(self) -> str:
        """Its name in a model's interface."""
        return f"call_{self.index}"


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, with its surroundings."""

    text: str


@dataclass(frozen=True, slots=True)
class Calls:
    """The model asked for these calls at once."""

    calls: tuple[Call, ...]
    said: str = ""
    """What it said beside."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave."""

    call: Call
    text: str
    is_error: bool = False
    retryable: bool = False
    """For an error: whether other arguments may help."""


@dataclass(frozen=True, slots=True)
class Said:
    """The model said something and went on."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the model is told: a correction from the user, or what was wrong with its answer."""

    text: str


Entry: TypeAlias = Task | Calls | Outcome | Said | Note


@dataclass(frozen=True, slots=True)
class Answer:
    """The model's decision to end with this text."""

    text: str
    is_cut: bool = False
    """Whether a limit of length has cut it off."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The model wrote something that is no decision."""

    reason: str
    """For the model: what was wrong."""


Decision: TypeAlias = Calls | Said | Answer | Malformed
