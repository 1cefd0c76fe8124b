"""Search in a folder of text and Markdown files."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from microturn.tools import Spoken, ToolFailed, tool
from microturn.tools.builtin.ranking import Bm25, words_of

FOLDER_VARIABLE = "MICROTURN_DOCUMENTS"
"""Environment variable with the folder to search; without it, the documents that come with microturn."""

_SUFFIXES = frozenset({".md", ".markdown", ".txt"})
_MOST_FILES = 2000
_MOST_FOLDERS = 5000
_LARGEST_FILE_BYTES = 1_000_000
_LONGEST_PASSAGE_CHARS = 1200
_LONGEST_SAID_CHARS = 300
_SHOWN_PASSAGES = 3


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph of a document, with the headings above it."""

    file: str
    """Path inside the folder."""
    title: str
    """The document's first heading, or its file name."""
    heading: str
    text: str


class DocumentIndex:
    """The passages of a folder. Blocks while it reads; made and searched in a thread."""

    def __init__(self, folder: Path) -> None:
        self.passages = [passage for path in _documents(folder) for passage in _passages(path, folder)]
        self._ranking = Bm25([f"{p.title} {p.heading} {p.text}" for p in self.passages])

    def search(self, query: str, limit: int = _SHOWN_PASSAGES) -> list[Passage]:
        """Return the passages that answer the query best, the best first."""
        return [self.passages[ranked.index] for ranked in self._ranking.rank(query, limit)]


class DocumentLibrary:
    """Keeps the index of one folder until a file in it changes. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[object, ...] = ()
        self._index: DocumentIndex | None = None

    def search(self, folder: Path, query: str) -> list[Passage]:
        """Search a folder. Blocks on the disk.

        Raises:
            ToolFailed: the folder cannot be read.
        """
        try:
            with self._lock:
                state = (folder, *((path, s.st_mtime_ns, s.st_size) for path, s in _stats(folder)))
                if self._index is None or state != self._state:
                    self._index, self._state = DocumentIndex(folder), state
                index = self._index
        except OSError as error:
            raise ToolFailed(
                f"the documents cannot be read: {type(error).__name__}; check the folder"
            ) from error
        return index.search(query)


_library = DocumentLibrary()


@tool(timeout_s=15.0, spoken_filler="Let me look in your documents.")
async def search_documents(query: Annotated[str, Field(min_length=1, max_length=300)]) -> Spoken:
    """Search the user's documents and return the passages that fit best.

    Args:
        query: What to look for, in a few words.
    """
    found = await anyio.to_thread.run_sync(_search, query, abandon_on_cancel=True)
    if not found:
        return Spoken(
            text="No document has any of these words.", say="I found nothing about that in your documents."
        )
    shown = "\n\n".join(f"[{p.file}] {p.heading or p.title}\n{p.text}" for p in found)
    return Spoken(text=shown, say=f"From {found[0].title}: {best_sentence(found[0].text, query)}")


def best_sentence(text: str, query: str) -> str:
    """Return the sentence of a passage that has the most words of the query, the first one of equals."""
    plain = re.sub(r"[*_`#>]|^\s*[-+]\s+", "", text, flags=re.MULTILINE)
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(plain.split()))
    sentences = re.split(r"(?<=[.!?])\s+", plain)
    wanted = set(words_of(query))
    best = max(sentences, key=lambda sentence: len(wanted & set(words_of(sentence))))
    return best if len(best) <= _LONGEST_SAID_CHARS else best[:_LONGEST_SAID_CHARS].rsplit(" ", 1)[0] + "."


def _search(query: str) -> list[Passage]:
    named = os.environ.get(FOLDER_VARIABLE, "").strip()
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise ToolFailed(f"the folder that {FOLDER_VARIABLE} names does not exist")
        return _library.search(folder, query)
    with as_file(files("microturn.tools.builtin") / "documents") as shipped:
        return _library.search(shipped, query)


def _documents(folder: Path) -> list[Path]:
    """The files to read, in a fixed order: no hidden ones, none that a link leads out of the folder to."""
    root = folder.resolve()
    found = []
    for directory, names, file_names in islice(os.walk(root), _MOST_FOLDERS):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(file_names):
            path = Path(directory, name)
            if path.suffix.lower() in _SUFFIXES and not name.startswith("."):
                found.append(path)
        if len(found) >= _MOST_FILES:
            break
    return [path for path in found[:_MOST_FILES] if path.resolve().is_relative_to(root)]


def _stats(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    return ((path, path.stat()) for path in _documents(folder))


def _passages(path: Path, folder: Path) -> Iterator[Passage]:
    """Split a document at headings and empty lines; long paragraphs at the length of a passage."""
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_LARGEST_FILE_BYTES)
    name = path.relative_to(folder.resolve()).as_posix()
    title = path.stem.replace("_", " ").replace("-", " ").capitalize()
    heading = ""
    is_first_heading = True
    for block in re.split(r"\n\s*\n|\n(?=#)", text):
        first, _, rest = block.strip().partition("\n")
        found = re.match(r"#{1,6}\s+(.+?)\s*#*$", first)
        if found:
            heading = found[1]
            title = heading if is_first_heading else title
            is_first_heading = False
        body = (rest if found else block).strip()
        for start in range(0, len(body), _LONGEST_PASSAGE_CHARS):
            yield Passage(name, title, heading, body[start : start + _LONGEST_PASSAGE_CHARS])
