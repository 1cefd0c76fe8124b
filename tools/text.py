"""Text that is fit to be shown to a model: no characters that hide or reorder, and not too long.

Knows nothing of tools.
"""

from __future__ import annotations

from dataclasses import dataclass

_MARKER_ROOM_BYTES = 48
_HEAD_SHARE = 0.7

_HIDDEN: dict[int, int | None] = {
    **dict.fromkeys(c for c in range(0x20) if c not in (0x09, 0x0A)),
    **dict.fromkeys(range(0x7F, 0xA0)),  # delete and the C1 controls
    **dict.fromkeys((0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF)),  # direction marks, zero-width spaces
    **dict.fromkeys(range(0x202A, 0x202F)),  # direction embeddings and overrides
    **dict.fromkeys(range(0x2060, 0x2070)),  # invisible operators, direction isolates
    **dict.fromkeys(range(0xE0000, 0xE0080)),  # tags, which can carry a whole hidden text
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),  # lone surrogates, which no wire takes
    0x0D: None,
    0x2028: 0x0A,
    0x2029: 0x0A,
}


def clean(text: str) -> str:
    """Take out control, direction and invisible characters; line breaks and tabs stay.

    The joiners U+200C and U+200D stay too: scripts and emoji need them.

    Source: Unicode Technical Report 36, sections on bidirectional text and on invisible characters.
    """
    return text.replace("\r\n", "\n").translate(_HIDDEN)


def one_line(text: str, limit_chars: int) -> str:
    """Clean a sentence for speech: one line of at most `limit_chars`, white space folded."""
    return " ".join(clean(text[: 2 * limit_chars]).split())[:limit_chars]


@dataclass(frozen=True, slots=True)
class Capped:
    """Clean text within a limit."""

    text: str
    truncated: bool


def cap(text: str, limit_bytes: int) -> Capped:
    """Clean `text` and keep its head and tail where it is longer than `limit_bytes` of UTF-8.

    The note in the middle counts towards the limit. Long text is cut before it is cleaned, so that the cost
    follows the limit and not the length.
    """
    if len(text) > 4 * limit_bytes:
        total = len(text) if text.isascii() else len(text.encode(errors="replace"))
        head, tail = text[:limit_bytes], text[-limit_bytes:]
    else:
        cleaned = clean(text).encode()
        total = len(cleaned)
        if total <= limit_bytes:
            return Capped(cleaned.decode(), truncated=False)
        head = tail = cleaned.decode()
    room = limit_bytes - _MARKER_ROOM_BYTES
    start = clean(head).encode()[: int(room * _HEAD_SHARE)]
    end = clean(tail).encode()[-(room - len(start)) :]
    left_out = total - len(start) - len(end)
    marker = f"\n[... {left_out} bytes left out ...]\n"
    return Capped(start.decode(errors="ignore") + marker + end.decode(errors="ignore"), truncated=True)
