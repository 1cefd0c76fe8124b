"""What a task that was given up looks like to an operator. What was said is only shown where it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from microturn.protocols import ContextPackage, Promise
from microturn.runtime.bus.dead_letters import DeadLetter, DeadTask
from microturn.runtime.live_view import printable

_REASONS = {
    "attempts": "its workers died of it, or fell silent, as often as is tried",
    "schema": "this release cannot read it",
    "record": "its record was written over by something else",
}


def letters_table(total: int, letters: Sequence[DeadLetter]) -> Table:
    """One row for each, newest first."""
    shown = f", the newest {len(letters)}" if len(letters) < total else ""
    grid = Table(title=f"{total} given up{shown}", title_justify="left")
    for column in ("task", "given up (UTC)", "reason", "size"):
        grid.add_column(column, no_wrap=True)
    for letter in letters:
        grid.add_row(
            Text(printable(letter.task_id) or f"(event {letter.entry_id})"),
            _when(letter.at_ms),
            Text(printable(letter.reason)),
            f"{letter.size_bytes / 1000:.1f} kB",
        )
    return grid


def describe(dead: DeadTask, *, words: bool = False) -> Iterator[str]:
    """Lines on one of them; with `words` also what was wanted and what had come of it."""
    letter = dead.letter
    yield f"task     {printable(letter.task_id) or '(an event that could not be read)'}"
    yield f"given up {_when(letter.at_ms)} UTC: {_REASONS.get(letter.reason, printable(letter.reason))}"
    yield f"size     {letter.size_bytes / 1000:.1f} kB, entry {letter.entry_id} of shard {letter.shard}"
    if dead.package is None:
        yield "package  cannot be read by this release"
    else:
        yield from _package_lines(dead.package, dead.session_state)
    if dead.promise is None:
        yield "record   gone; it is kept for an hour once its promise is closed, else for a day"
    else:
        yield from _record_lines(dead.promise)
    if words:
        yield from _words(dead)


def _package_lines(package: ContextPackage, session_state: str) -> Iterator[str]:
    yield f"session  {printable(package.session_id)}, which is {session_state}"
    lane = ", urgent" if package.urgent else ""
    yield f"agent    {printable(package.agent)}{lane}, deadline {package.deadline_s:g} s"
    if trace := package.trace.get("traceparent", ""):
        yield f"trace    {printable(trace.split('-')[1] if trace.count('-') == 3 else trace)}"
    yield f"carries  {len(package.history)} turns, {len(package.key_frames)} pictures, {len(package.tool_state)} tools"


def _record_lines(promise: Promise) -> Iterator[str]:
    yield f"promise  {promise.state}, corrected {promise.revision} x"
    attempts = max((event.attempt for event in promise.events), default=0)
    yield f"attempts {attempts}, the last of which gave it up"
    for event in promise.events:
        tool = event.detail.get("tool")
        named = f" {printable(tool)}" if isinstance(tool, str) else ""
        spoken = f", {len(event.speech.text.split())} words to say" if event.speech is not None else ""
        yield f"  {event.seq:>3} attempt {event.attempt}: {event.kind}{named}{spoken}"


def _words(dead: DeadTask) -> Iterator[str]:
    if dead.package is not None:
        yield f"wanted   {printable(dead.package.intent)}"
        for turn in dead.package.history:
            yield f"  {turn.speaker}: {printable(turn.text)}"
    for event in dead.promise.events if dead.promise is not None else ():
        if event.speech is not None:
            yield f"  {event.seq:>3} says: {printable(event.speech.text)}"


def _when(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at_ms / 1000))
