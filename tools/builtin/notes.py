"""Notes that outlive the conversation, in a SQLite file in the user's data folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from microturn.tools import Spoken, ToolContext, ToolRetry, tool
from microturn.tools.builtin.database import transact

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY AUTOINCREMENT, written TEXT NOT NULL, "
    "text TEXT NOT NULL, call TEXT NOT NULL UNIQUE)"
)
_SPOKEN_NOTES = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """One note."""

    note_id: int
    written: str
    """The user's local time when it was said, ISO 8601."""
    text: str


@dataclass(frozen=True, slots=True)
class NoteStore:
    """The notes in one data folder; safe to be used by several processes at once."""

    data_dir: Path

    async def add(self, text: str, written: str, call: str) -> int:
        """Keep a note and return its number. The same call again keeps it once."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT OR IGNORE INTO notes (written, text, call) VALUES (?, ?, ?)", (written, text, call)
            )
            return int(connection.execute("SELECT id FROM notes WHERE call = ?", (call,)).fetchone()[0])

        return await self._run(work)

    async def newest(self, limit: int) -> list[Note]:
        """Return the newest notes, the newest first."""
        query = "SELECT id, written, text FROM notes ORDER BY id DESC LIMIT ?"
        return await self._run(lambda connection: [Note(*row) for row in connection.execute(query, (limit,))])

    async def search(self, query: str, limit: int) -> list[Note]:
        """Return the newest notes that have every word of the query somewhere in them, in any case."""
        words = query.casefold().split()

        def work(connection: sqlite3.Connection) -> list[Note]:
            rows = connection.execute("SELECT id, written, text FROM notes ORDER BY id DESC")
            found = (Note(*row) for row in rows if all(word in row[2].casefold() for word in words))
            return [note for note, _ in zip(found, range(limit), strict=False)]

        return await self._run(work)

    async def delete(self, note_id: int) -> Note | None:
        """Delete a note and return it; None where there is none of this number."""

        def work(connection: sqlite3.Connection) -> Note | None:
            row = connection.execute(
                "SELECT id, written, text FROM notes WHERE id = ?", (note_id,)
            ).fetchone()
            connection.execute("DELETE FROM notes WHERE id = ?", (note_id,))
            return None if row is None else Note(*row)

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await transact(self.data_dir / "notes.sqlite3", _SCHEMA, work)


@tool(
    timeout_s=10.0,
    side_effect="idempotent",
    phrases=["(make|take|add) a note (that|to|saying) {text}", "(note|write) down [that] {text}"],
)
async def add_note(
    context: ToolContext, text: Annotated[str, Field(min_length=1, max_length=4000)]
) -> Spoken:
    """Keep a note for the user.

    Args:
        text: The note, in the user's words.
    """
    number = await _store(context).add(text, context.package.local_time, context.idempotency_key)
    return Spoken(text=f"Note {number} is kept: {text}", say="Okay, I have noted that.")


@tool(timeout_s=10.0, phrases=["(list|read [me]|what are|tell me) my notes", "what notes do i have"])
async def list_notes(context: ToolContext, limit: Annotated[int, Field(ge=1, le=100)] = 20) -> Spoken:
    """List the user's notes, the newest first.

    Args:
        limit: How many at most.
    """
    return _listed(await _store(context).newest(limit), "You have no notes.")


@tool(timeout_s=10.0)
async def search_notes(
    context: ToolContext,
    query: Annotated[str, Field(min_length=1, max_length=200)],
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
) -> Spoken:
    """Find the user's notes that contain all of some words.

    Args:
        query: The words.
        limit: How many notes at most.
    """
    return _listed(await _store(context).search(query, limit), "I found no note about that.")


@tool(timeout_s=10.0, side_effect="idempotent")
async def delete_note(context: ToolContext, note_id: int) -> Spoken:
    """Delete one of the user's notes.

    Args:
        note_id: Its number, as the list or the search shows it.
    """
    gone = await _store(context).delete(note_id)
    if gone is None:
        raise ToolRetry("there is no note of this `note_id`; list_notes shows the numbers")
    return Spoken(text=f"Note {note_id} is deleted: {gone.text}", say="Okay, that note is deleted.")


def _store(context: ToolContext) -> NoteStore:
    return NoteStore(context.data_dir)


def _listed(notes: list[Note], none: str) -> Spoken:
    if not notes:
        return Spoken(text=none, say=none)
    lines = "\n".join(
        f"{note.note_id}. {note.text} ({note.written[:16].replace('T', ' ')})" for note in notes
    )
    first = ". ".join(note.text.strip().rstrip(".") for note in notes[:_SPOKEN_NOTES])
    count = "one note" if len(notes) == 1 else f"{len(notes)} notes"
    opening = f"I have {count}" if len(notes) <= _SPOKEN_NOTES else f"I have {count}; the newest are"
    return Spoken(text=lines, say=f"{opening}: {first}.")
