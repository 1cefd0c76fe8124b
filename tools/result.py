"""What a tool may return and what the agent gets of it. Knows nothing of how tools are found or called."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import to_json

from microturn.tools.text import cap, one_line

SPOKEN_LIMIT_CHARS = 600
"""Longest sentence that is offered for speech, some 40 seconds of it."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A tool's result together with a sentence that says it."""

    text: str
    """For the model and the screen."""
    say: str
    """For the ear: a short sentence without markup."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The outcome of one call; never longer than the tool's limit."""

    text: str
    is_error: bool = False
    truncated: bool = False
    """Whether the middle of the text was left out."""
    spoken: str | None = None
    """A sentence fit for speech, where the tool gave one."""
    retryable: bool = False
    """For an error: whether other arguments may help."""


def to_result(value: object, limit_bytes: int) -> ToolResult:
    """Make a result of what a tool returned: text as it is, everything else as JSON.

    Raises:
        PydanticSerializationError: the value has no JSON form.
    """
    if isinstance(value, Spoken):
        capped = cap(value.text, limit_bytes)
        return ToolResult(
            capped.text, truncated=capped.truncated, spoken=one_line(value.say, SPOKEN_LIMIT_CHARS) or None
        )
    capped = cap(_text(value), limit_bytes)
    return ToolResult(capped.text, truncated=capped.truncated)


def _text(value: object) -> str:
    if value is None:
        return "Done."
    return value if isinstance(value, str) else to_json(value).decode(errors="replace")
