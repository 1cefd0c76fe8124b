"""Cuts an event to the size that a bus carries, so that a result that is too long is told in part and not lost."""

from __future__ import annotations

from pydantic import JsonValue

from microturn.background_agent.chat_client import as_json
from microturn.protocols import INLINE_LIMIT_BYTES, DelegationEvent
from microturn.tools.text import cap, one_line

SPEECH_LIMIT_CHARS = 8_000
"""Most words that are kept of a speech in an event that is too large: some ten minutes. Our choice."""
_VALUE_LIMIT_BYTES = 1_024
_LEAST_TEXT_BYTES = 1_024


def fitted_event(event: DelegationEvent, limit_bytes: int = INLINE_LIMIT_BYTES) -> DelegationEvent:
    """Return the event, or one that is at most `limit_bytes` long when encoded.

    Of the text for the screen the head and the tail stay, with a note between them of how much was left out; of
    words to be spoken the beginning; of `detail` every value that is small. `limit_bytes` is at least 64 kB.

    Raises:
        ValueError: `detail` cannot be encoded, as it is nested too deeply.
    """
    if _size(event) <= limit_bytes:
        return event
    event = event.model_copy(update={"detail": _small(event.detail)})
    if event.speech is not None:
        spoken = one_line(event.speech.text, SPEECH_LIMIT_CHARS)
        event = event.model_copy(update={"speech": event.speech.model_copy(update={"text": spoken})})
    room = limit_bytes
    while _size(event) > limit_bytes and room > _LEAST_TEXT_BYTES:
        room //= (
            2  # Escapes make the text longer than its bytes, by how much is only known once it is encoded.
        )
        event = event.model_copy(update={"text": cap(event.text, room).text})
    return event


def _size(event: DelegationEvent) -> int:
    return len(event.encode().encode())


def _small(detail: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The detail with a note of its size in the place of each large value; at most a few dozen values."""
    small: dict[str, JsonValue] = {}
    for name, value in list(detail.items())[:32]:
        size = len(as_json(value).encode())
        short: JsonValue = value if size <= _VALUE_LIMIT_BYTES else {"left_out_bytes": size}
        small[name[:64]] = short
    return small
