"""What a runtime says of itself to operators: its sessions, who speaks in them, and how well it holds the beat.

Names and numbers only, never a word that was said. Kept on the bus by `status_board`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from microturn.protocols import Floor
from microturn.protocols._message import Message

MOST_SESSIONS = 200
"""Sessions that one status names; of more, only the number is told. With `MOST_TASKS` it
keeps a status under 64 kB. Our choice."""
MOST_TASKS = 4
"""Open tasks of a session that are named. Our choice."""


class SessionStatus(BaseModel):
    """One session that runs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    session_id: str
    floor: Floor
    age_s: float = Field(ge=0)
    """Since it began to run in this process."""
    open_tasks: int = Field(default=0, ge=0)
    task_ids: tuple[str, ...] = ()
    """The newest of its open tasks."""


class RuntimeStatus(Message):
    """One runtime process."""

    runtime_id: str
    host: str = ""
    """The machine's name."""
    pid: int = 0
    sessions: tuple[SessionStatus, ...] = ()
    session_count: int = Field(default=0, ge=0)
    """All of them; `sessions` names `MOST_SESSIONS` at most."""
    ticks: int = Field(default=0, ge=0)
    """Steps in the last minute."""
    tick_p50_ms: float | None = None
    """How long half of them took at most, model included; None where there were none."""
    tick_p99_ms: float | None = None
    missed: int = Field(default=0, ge=0)
    """Micro-turns of the last minute without a step of their own."""
