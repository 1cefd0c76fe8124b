"""Text that is fit to be shown to a model: no characters that hide or reorder, and not too long.

Knows nothing of tools.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARKER_ROOM_BYTES = 48
_HEAD_SHARE = 0.7

_HIDDEN: dict[int, int | None] = {
    **dict.fromkeys(c for c in range(0x20) if c not in (0x09, 0x0A)),
    **dict.fromkeys(range(0x7F, 0xA0)),  # delete and the C1 controls
    **dict.fromkeys((0x061C, 0x200B, 0x200E, 0x200F, 0xFEFF)),  # direction marks, zero-width spaces
    **dict.fromkeys((0x00AD, 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0)),  # shown as nothing
    **dict.fromkeys(range(0x180B, 0x1810)),  # Mongolian selectors and vowel separator
    **dict.fromkeys(range(0xFE00, 0xFE0E)),  # variation selectors other than those of emoji
    **dict.fromkeys(range(0xFFF9, 0xFFFC)),  # annotations
    **dict.fromkeys(range(0x1D173, 0x1D17B)),  # musical formatting
    **dict.fromkeys(range(0x202A, 0x202F)),  # direction embeddings and overrides
    **dict.fromkeys(range(0x2060, 0x2070)),  # invisible operators, direction isolates
    **dict.fromkeys(range(0xE0000, 0xE1000)),  # tags and selectors, which can carry a whole hidden text
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),  # lone surrogates, which no wire takes
    0x0D: None,
    0x2028: 0x0A,
    0x2029: 0x0A,
}

_TERMINAL = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|\x9d)[^\x07\x1b\x9c]*|\x1b.")
"""Commands to a terminal. Source: ECMA-48, sections 5.3 to 5.6."""
_JOINERS = re.compile("([\u200c\u200d\ufe0e\ufe0f]{2})[\u200c\u200d\ufe0e\ufe0f]+")
"""No script and no emoji needs more than two in a row; a long row can carry hidden text."""


def clean(text: str) -> str:
    """Take out control, direction and invisible characters, and commands to terminals; line breaks and tabs stay.

    The joiners U+200C and U+200D and the selectors U+FE0E and U+FE0F stay too, two in a row at most: scripts and
    emoji need them.

    Source: Unicode Technical Report 36, sections on bidirectional text and on invisible characters.
    """
    if "\x1b" in text or "\x9b" in text or "\x9d" in text:
        text = _TERMINAL.sub("", text)
    return _JOINERS.sub(r"\1", text.replace("\r\n", "\n").translate(_HIDDEN))


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
