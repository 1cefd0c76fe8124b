"""Lets a user type instead of speaking: lines from a terminal, a pipe or a text, handed to a session on the beat.

Knows nothing of what becomes of a line.
"""

from __future__ import annotations

import queue
import threading
from typing import TextIO

from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session

QUIET_TICKS = 5
"""Micro-turns without anything to say or to wait for but the user, after which it is the user's turn: 1 s, our choice."""


class Typist:
    """Types lines into a session; an observer of it, through which it gets the beat.

    A person at a terminal may type whenever they like. From elsewhere the next line is typed when the one before has
    been answered, or has led to a question, so that lines from a pipe make a conversation rather than an interruption. A thread of its own
    reads, one line ahead; it ends with the process where nothing comes, because reading a terminal cannot be broken
    off.
    """

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._waits = not lines.isatty()
        self._next: queue.Queue[str | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._read_all, name="typed lines", daemon=True)
        self._quiet_ticks = QUIET_TICKS
        self._session: Session | None = None
        self._source: Ingress | None = None
        self._is_over = False
        self.problem: str | None = None
        """Why no more lines could be read, if so; one sentence."""

    def start(self, session: Session, source: Ingress) -> None:
        """Begin to type into a session; its source is closed at the end of the lines."""
        self._session, self._source = session, source
        self._thread.start()

    @property
    def is_awaited(self) -> bool:
        """Whether the conversation stands still until somebody types; a virtual clock must not run on then."""
        return not self._is_over and self._quiet_ticks >= QUIET_TICKS and self._next.empty()

    def __call__(self, event: SessionEvent) -> None:
        """Type the next line after a step, if there is one and its time has come."""
        if not isinstance(event, TickDone) or self._session is None or self._is_over:
            return
        is_users_turn = self._session.is_idle or self._session.awaits_user
        self._quiet_ticks = self._quiet_ticks + 1 if is_users_turn else 0
        if not self._waits or self._quiet_ticks >= QUIET_TICKS:
            self._type_next(self._session)

    def _type_next(self, session: Session) -> None:
        try:
            line = self._next.get_nowait()
        except queue.Empty:
            return
        if line is not None:
            self._quiet_ticks = 0
            session.type(line)
            return
        self._is_over = True
        if self._source is not None:
            self._source.close()

    def _read_all(self) -> None:
        try:
            while line := self._lines.readline():
                if line.strip():
                    self._next.put(line.strip())
        except (OSError, ValueError) as error:
            self.problem = f"The typed lines could not be read any further ({type(error).__name__})."
        self._next.put(None)
