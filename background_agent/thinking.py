"""Takes out of an answer what a reasoning model thinks aloud in it.

Servers that know their model send such thoughts apart; others leave them in the text, between tags. They are never
spoken and never shown. Knows nothing of how text is streamed.
"""

from __future__ import annotations

import re

_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_END = re.compile(r"</think(?:ing)?>")
_TAGS = ("<think>", "<thinking>", "</think>", "</thinking>")


def without_thinking(text: str) -> str:
    """The text after the thoughts at its beginning; empty while nothing but thoughts has come.

    Some models are started inside a thought, so that only its end is marked: what stands before is left out, too. The
    end of a text that may become a tag is held back.
    """
    while found := _THOUGHT.match(text):
        text = text[found.end() :]
    if ends := list(_END.finditer(text)):
        text = text[ends[-1].end() :]
    return text[: len(text) - _begun_tag_chars(text)]


def _begun_tag_chars(text: str) -> int:
    """How many characters at the end may be the beginning of a tag."""
    start = text.rfind("<")
    rest = text[start:] if start >= 0 else ""
    return len(rest) if rest and any(tag.startswith(rest) for tag in _TAGS) else 0
