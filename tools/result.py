"""What a tool may return and what the agent gets of it. Knows nothing of how tools are found or called."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic_core import to_json

from microturn.tools.text import cap, one_line

SPOKEN_LIMIT_CHARS = 600
"""Longest sentence that is offered for speech, some 40 seconds of it."""
WHOLE_LIMIT_BYTES = 4 * 1024 * 1024
"""Of a longer result even what is kept aside has head and tail only. Our choice."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A tool's result together with a sentence that says it."""

    text: str
    """For the model and the screen."""
    say: str
    """For the ear: a short sentence without markup."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What a tool returned, before any of it is left out."""

    text: str
    spoken: str | None = None


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
    artifact: str | None = None
    """Where the middle was left out: the name under which the whole result is kept, for `read_artifact`."""


def to_whole(value: object) -> Whole:
    """Take what a tool returned: text as it is, everything else as JSON.

    Raises:
        PydanticSerializationError: the value has no JSON form.
    """
    if isinstance(value, Whole):
        return value
    if isinstance(value, Spoken):
        return Whole(value.text, one_line(value.say, SPOKEN_LIMIT_CHARS) or None)
    if value is None:
        return Whole("Done.")
    return Whole(value if isinstance(value, str) else to_json(value).decode(errors="replace"))


def to_result(whole: Whole, limit_bytes: int, artifact: str | None = None) -> ToolResult:
    """Make a result of at most `limit_bytes`; where the middle is left out, its last line names the `artifact`."""
    capped = cap(whole.text, limit_bytes)
    if not capped.truncated or artifact is None:
        return ToolResult(capped.text, truncated=capped.truncated, spoken=whole.spoken)
    reference = f'\n[The whole result is kept: read_artifact(artifact="{artifact}") reads on from any byte.]'
    shorter = cap(whole.text, limit_bytes - len(reference))
    return ToolResult(shorter.text + reference, truncated=True, spoken=whole.spoken, artifact=artifact)
