"""Which timers of a session are running, kept in the user's data folder. Knows nothing of how they are spoken."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from microturn.tools.builtin.database import transact

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS timers (session TEXT NOT NULL, label TEXT NOT NULL, due_ms INTEGER NOT NULL, "
    "call TEXT NOT NULL UNIQUE, cancelled_by TEXT)"
)
_KEPT_PER_SESSION = 1000
_LATEST_SPOKEN_MS = 60_000
"""How long after it was due a timer keeps its name: it may still wait to be spoken, and must not be replaced."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One timer."""

    label: str
    """Its name, unique among the running ones of its session."""
    due_ms: int
    """Session time at which it is due."""


@dataclass(frozen=True, slots=True)
class TimerBook:
    """The timers of one session."""

    data_dir: Path
    session_id: str

    async def add(self, label: str, due_ms: int, call: str, now_ms: int) -> Timer:
        """Note a timer under `label`, or under "label 2" and so on while another runs under that name.

        The same call brings back the timer that it made before.
        """

        def work(connection: sqlite3.Connection) -> Timer:
            known = connection.execute("SELECT label, due_ms FROM timers WHERE call = ?", (call,)).fetchone()
            if known is not None:
                return Timer(*known)
            taken = {timer.label for timer in self._running(connection, now_ms - _LATEST_SPOKEN_MS)}
            names = [label, *(f"{label} {number}" for number in range(2, len(taken) + 2))]
            free = next(name for name in names if name not in taken)
            connection.execute(
                "INSERT INTO timers (session, label, due_ms, call) VALUES (?, ?, ?, ?)",
                (self.session_id, free, due_ms, call),
            )
            connection.execute(
                "DELETE FROM timers WHERE session = ?1 AND rowid NOT IN "
                "(SELECT rowid FROM timers WHERE session = ?1 ORDER BY rowid DESC LIMIT ?2)",
                (self.session_id, _KEPT_PER_SESSION),
            )
            return Timer(free, due_ms)

        return await transact(self._path, _SCHEMA, work)

    async def running(self, now_ms: int) -> list[Timer]:
        """Return the timers that are due after `now_ms` and were not cancelled, the next one first."""
        return await transact(self._path, _SCHEMA, lambda connection: self._running(connection, now_ms))

    async def cancelled_by(self, call: str) -> Timer | None:
        """Return the timer that this call has cancelled before."""

        def work(connection: sqlite3.Connection) -> Timer | None:
            row = connection.execute(
                "SELECT label, due_ms FROM timers WHERE cancelled_by = ?", (call,)
            ).fetchone()
            return None if row is None else Timer(*row)

        return await transact(self._path, _SCHEMA, work)

    async def cancel(self, timer: Timer, call: str) -> None:
        """Note that a running timer was cancelled by a call."""
        await transact(
            self._path,
            _SCHEMA,
            lambda connection: (
                connection.execute(
                    "UPDATE timers SET cancelled_by = ? "
                    "WHERE session = ? AND label = ? AND due_ms = ? AND cancelled_by IS NULL",
                    (call, self.session_id, timer.label, timer.due_ms),
                ).rowcount
            ),
        )

    @property
    def _path(self) -> Path:
        return self.data_dir / "timers.sqlite3"

    def _running(self, connection: sqlite3.Connection, now_ms: int) -> list[Timer]:
        rows = connection.execute(
            "SELECT label, due_ms FROM timers WHERE session = ? AND due_ms > ? AND cancelled_by IS NULL ORDER BY due_ms",
            (self.session_id, now_ms),
        )
        return [Timer(*row) for row in rows]
