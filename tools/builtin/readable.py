"""From HTML to text that is pleasant to read: headings, paragraphs, lists, and none of the furniture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

_NEVER = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object", "canvas", "select"})
_FURNITURE = frozenset({"nav", "footer", "aside", "form", "button"})
_BLOCKS = frozenset(
    {
        "p",
        "div",
        "section",
        "article",
        "main",
        "header",
        "table",
        "tr",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "blockquote",
    }
    | {"pre", "figure", "figcaption", "hr", "br", "title", "body", "h1", "h2", "h3", "h4", "h5", "h6", "li"}
)
_DEEPEST = 100
"""Skipped elements inside one another of which account is kept."""
_OPENINGS = {
    "h1": "# ",
    "h2": "## ",
    "h3": "### ",
    "h4": "#### ",
    "h5": "##### ",
    "h6": "###### ",
    "li": "- ",
}


@dataclass(frozen=True, slots=True)
class ReadableText:
    """A page as text."""

    title: str
    text: str
    """Paragraphs with an empty line between them, headings behind `#`, list items behind `-`."""


def readable_text(html: str) -> ReadableText:
    """Extract the title and the text of a page; never raises, whatever the HTML is like.

    Where leaving out navigation and forms leaves nothing, as with tags that are never closed, they are kept.
    """
    plain = _tags_only(html)
    page = _Reader(_NEVER | _FURNITURE).read(plain)
    return page if page.text else _Reader(_NEVER).read(plain)


def _tags_only(html: str) -> str:
    """Take out comments and declarations, and escape every `<` that begins no tag.

    The standard library's parser raises on some malformed declarations, and takes quadratic time over tags that
    are never closed; what is left here it reads in a time that grows with the length.
    """
    pieces, position = [], 0
    while (start := html.find("<!--", position)) >= 0 and (end := html.find("-->", start + 4)) >= 0:
        pieces.append(html[position:start])
        position = end + 3
    joined = " ".join([*pieces, html[position:]])
    escaped = re.sub(r"<(?!/?[a-zA-Z])", "&lt;", re.sub(r"<[!?][^<>]*>", " ", joined))
    last = escaped.rfind(">") + 1
    return escaped[:last] + escaped[last:].replace("<", "&lt;")


class _Reader(HTMLParser):
    def __init__(self, skipped: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self._skipped = skipped
        self._open_skipped: list[str] = []
        self._in_title = False
        self._title: list[str] = []
        self._pieces: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._skipped:
            if len(self._open_skipped) < _DEEPEST:
                self._open_skipped.append(tag)
        elif tag == "title":
            self._in_title = True
        elif tag in _BLOCKS:
            self._pieces.append("\n" + _OPENINGS.get(tag, ""))
        elif tag in {"td", "th"}:
            self._pieces.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self._skipped:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open_skipped:
            del self._open_skipped[self._open_skipped.index(tag) :]
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            self._pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title and not self._open_skipped:
            self._title.append(data)
        elif not self._open_skipped:
            self._pieces.append(re.sub(r"\s+", " ", data))

    def read(self, html: str) -> ReadableText:
        self.feed(html)
        self.close()
        return self._result()

    def _result(self) -> ReadableText:
        lines = (" ".join(line.split()) for line in "".join(self._pieces).split("\n"))
        pieces: list[str] = []
        previous = ""
        for line in lines:
            if line.strip("#- "):
                both_items = line.startswith("- ") and previous.startswith("- ")
                pieces += ["\n" if both_items else "\n\n", line]
                previous = line
        return ReadableText(" ".join("".join(self._title).split()), "".join(pieces[1:]))
