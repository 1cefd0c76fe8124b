"""Takes the markup out of a text that was written for a screen: Markdown, HTML, links, pictures, code, tables.

Knows nothing of units and signs; what is left is words that can be read from top to bottom.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final

from microturn.tools.text import clean

MOST_ROWS: Final = 5
"""Rows of a table that are read out; whoever wants more looks at the screen. Our choice."""

_FENCE = re.compile(r"(```|~~~).*?(?:\1|\Z)", re.DOTALL)
_TARGET = r"(?:\([^()]{0,2000}(?:\([^()]{0,200}\)[^()]{0,2000})?\)|\[[^\]\n]{0,200}\])"
_IMAGE = re.compile(rf"!\[([^\]]{{0,300}})\]{_TARGET}")
_LINK = re.compile(rf"\[([^\]]{{1,300}})\]{_TARGET}")
_OPEN_LINK = re.compile(r"!?\[(?P<label>[^\[\]]{0,300})(?:\]\([^()]{0,2000}(?:\([^()]{0,200}\)?)?)?\Z")
"""The beginning of a link or a picture that is not there whole, as far as one can be long."""
_LINK_TARGET = re.compile(r"^ {0,3}\[[^\]\n]+\]:\s*\S+.*$", re.MULTILINE)
_SOURCE_MARK = re.compile(r"\s?\[\^?\d{1,3}\]|【[^】\n]*】")
_ADDRESS = re.compile(
    r"<?\b(?:(?:https?|ftps?|wss?|file)://(?:www\.)?|www\.)([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::\d+)?(?:[/?#][^\s<>)\]]*?)?>?(?=[.,!?;:]*(?:[\s<>)\]]|\Z))",
    re.IGNORECASE,
)
_HOST_AND_PATH = re.compile(
    r"(?<![\w@/.-])((?:[a-z0-9-]+\.)+[a-z]{2,})/[^\s<>)\]]*[^\s<>)\].,!?;:]", re.IGNORECASE
)
_MAIL = re.compile(r"<?(?:mailto:)?\b([\w.+-]+)@((?:[\w-]+\.)+[a-z]{2,})\b>?", re.IGNORECASE)
_BOX = re.compile(r"^(\s*(?:(?:[-*+•]|\d{1,3}[.)])\s+)?)\[( |x|X)\]\s+(.*)$", re.MULTILINE)
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}\s+|(?:>\s?)+|[-*+•▪◦‣·–]\s+|\(?\d{1,3}[.)]\s+)", re.MULTILINE)
_CLOSED_HEADING = re.compile(r"^(\s*#{1,6}\s.*?)\s#+\s*$", re.MULTILINE)
_RULE = re.compile(r"^\s*(?:[-*_]\s*){3,}$|^\s*={3,}\s*$", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*\*\*|\*\*|__|\*|~~|==|`+)(?=\S)([^\n]+?)(?<=\S)\1")
_UNDERSCORES = re.compile(r"(?<!\w)_(?=\S)([^\n]+?)(?<=\S)_(?!\w)")
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>\n]*>", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_BREAK = re.compile(r"<br\s*/?>|</(?:p|li|div|tr|h[1-6])>", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|~-])")
_PICTURE = re.compile(
    "[0-9#*]\ufe0f?\u20e3|[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u231a\u231b\u23e9-\u23fa\ufe0f\u200d©®™]"
)
_ROW = re.compile(r"^\s*\|.*$")
_TABLE_RULE = re.compile(r"^[\s|:-]*-{2,}[\s|:-]*$")
_ENDS = (".", "!", "?", ":", ";", ",", "…")


def plain_text(text: str) -> str:
    """The words of a text, line by line; nothing of it but words, signs and numbers is left.

    Blocks of code are left out, a link is its text, a bare address its host, a table is rows of named cells.
    """
    text = html.unescape(_CDATA.sub("", _BREAK.sub("\n", _FENCE.sub(" ", clean(text)))))
    text = _OPEN_LINK.sub(r"\g<label>", _LINK.sub(r"\1", _IMAGE.sub(r"\1", text)))
    text = _SOURCE_MARK.sub("", _LINK_TARGET.sub("", text))
    text = _MAIL.sub(_mail, _HOST_AND_PATH.sub(r"\1", _ADDRESS.sub(r"\1", text)))
    text = _RULE.sub("", _CLOSED_HEADING.sub(r"\1", _BOX.sub(_box, text)))
    text = "\n".join(_with_tables(text.split("\n")))
    text = _LINE_MARK.sub("", text)
    for _ in range(3):  # Bold within italics within code is as deep as it goes.
        text = _EMPHASIS.sub(r"\2", text)
    text = _UNDERSCORES.sub(r"\1", text)
    text = _ESCAPE.sub(r"\1", text)
    for _ in range(3):  # A tag can be left over from two that were put into one another.
        text = _TAG.sub("", text)
    text = _PICTURE.sub("", text)
    return re.sub(r"\s*\|\s*", ", ", text).replace("`", "").replace("**", "")


def one_line(text: str) -> str:
    """The lines of a plain text as one, with a pause where one ends without a mark."""
    lines = [" ".join(line.split()) for line in text.split("\n")]
    said = ""
    for line in filter(None, lines):
        joint = "" if not said else " " if said.endswith(_ENDS) else ", "
        said += joint + line
    return said


def is_in_link(text: str) -> bool:
    """Whether a text ends within a link or a picture. What is too long to be one is none."""
    return _OPEN_LINK.search(text) is not None


def is_table_row(line: str) -> bool:
    """Whether a line is a row of a table."""
    return _ROW.match(line) is not None


def _mail(found: re.Match[str]) -> str:
    return f"{found[1]} at {found[2]}"


def _box(found: re.Match[str]) -> str:
    is_done = found[2] != " "
    return f"{found[1]}{found[3]}{', done' if is_done else ''}"


def _with_tables(lines: list[str]) -> Iterator[str]:
    """The lines, those of a table said as rows."""
    table: list[str] = []
    for line in [*lines, ""]:
        if is_table_row(line):
            table.append(line)
            continue
        if table:
            yield from _said_table(table)
            table = []
        yield line


def _said_table(rows: list[str]) -> Iterator[str]:
    """A table: each row by its first cell, the others with the names of their columns."""
    cells = [[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows]
    if len(rows) < 2 or not _TABLE_RULE.match(rows[1]):
        yield from (", ".join(filter(None, row)) for row in cells)
        return
    names, body = cells[0], cells[2:]
    for row in body[:MOST_ROWS]:
        yield _said_row(names, row)
    if len(body) > MOST_ROWS:
        yield f"and {len(body) - MOST_ROWS} more on the screen."


def _said_row(names: list[str], row: list[str]) -> str:
    first, *others = row
    if len(names) == 2:
        said = ", ".join(filter(None, others))
    else:
        named = zip(names[1:], others, strict=False)
        said = ", ".join(f"{name} {cell}".strip() for name, cell in named if cell)
    return f"{first}: {said}." if first and said else f"{first or said}."
