"""Notes: kept, found, deleted, and safe with two processes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from microturn.tools import ToolContext, ToolFailed, ToolRegistry, ToolRetry
from microturn.tools.builtin.notes import NoteStore, add_note, delete_note, list_notes, search_notes

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def call(context: ToolContext, index: int) -> ToolContext:
    return replace(context, idempotency_key=ToolContext.key("task", index))


async def test_notes_are_kept_listed_found_and_deleted(context: ToolContext) -> None:
    await add_note(call(context, 0), "Buy milk")
    await add_note(call(context, 1), "Call Åse about 100% of the milk")

    assert (await list_notes(context)).text.splitlines() == [
        "2. Call Åse about 100% of the milk (2026-05-04 16:45)",
        "1. Buy milk (2026-05-04 16:45)",
    ]
    assert (await search_notes(context, "MILK åse")).text.startswith("2. Call")
    assert (await search_notes(context, "100%")).text.startswith("2. Call")
    assert (await search_notes(context, "_")).text == "I found no note about that."

    assert (await delete_note(context, 2)).text.endswith("Call Åse about 100% of the milk")
    assert (await list_notes(context)).say == "I have one note: Buy milk."
    with pytest.raises(ToolRetry, match="list_notes"):
        await delete_note(context, 2)


async def test_without_notes_it_says_so(context: ToolContext) -> None:
    assert (await list_notes(context)).say == "You have no notes."


async def test_only_the_newest_notes_are_read_out(context: ToolContext) -> None:
    for number in range(5):
        await add_note(call(context, number), f"note {number}.")

    listed = await list_notes(context, limit=4)

    assert listed.say == "I have 4 notes; the newest are: note 4. note 3. note 2."


async def test_the_same_call_keeps_its_note_once(context: ToolContext) -> None:
    first, second = await add_note(context, "once"), await add_note(context, "once")

    assert first == second
    assert (await list_notes(context)).text.count("once") == 1


async def test_a_number_is_never_given_to_a_second_note(context: ToolContext) -> None:
    await add_note(call(context, 0), "gone")
    await delete_note(context, 1)

    assert (await add_note(call(context, 1), "new")).text.startswith("Note 2")


async def test_an_empty_note_is_refused(context: ToolContext) -> None:
    assert (await ToolRegistry([add_note]).call("add_note", {"text": ""}, context)).is_error


async def test_a_damaged_file_is_an_error_that_says_which(context: ToolContext) -> None:
    context.data_dir.mkdir()
    (context.data_dir / "notes.sqlite3").write_bytes(b"no database at all" * 100)

    with pytest.raises(ToolFailed, match=r"notes\.sqlite3"):
        await list_notes(context)


_WRITER = """
import sys, anyio
from pathlib import Path
from microturn.tools.builtin.notes import NoteStore

async def main() -> None:
    for number in range(40):
        await NoteStore(Path(sys.argv[1])).add(f"{sys.argv[2]} {number}", "", f"{sys.argv[2]}/{number}")

anyio.run(main)
"""


async def test_two_processes_write_at_once_and_lose_nothing(context: ToolContext) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(context.data_dir), name])
        for name in ("left", "right")
    ]
    assert [writer.wait(15) for writer in writers] == [0, 0]

    notes = await NoteStore(context.data_dir).newest(100)
    assert {note.text for note in notes} == {f"{name} {n}" for name in ("left", "right") for n in range(40)}
    assert len({note.note_id for note in notes}) == 80
