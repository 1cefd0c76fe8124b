"""A session's ledger: what the user was promised, and what has become of each promise.

It is kept with the bus, so that it survives the process that made the promises.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from microturn.protocols._message import Message
from microturn.protocols.delegation import DelegationEvent
from microturn.protocols.receipt import Receipt

PromiseState: TypeAlias = Literal["open", "spoken", "declined", "expired", "failed"]
"""`open` until it ends in one of the others: the answer was `spoken` to its end; the user `declined` it, by a cancel
or by not wanting the rest; it `expired` unsaid; or the task `failed` and the user was told."""


class Promise(Message):
    """One task that the user was promised an answer to."""

    task_id: str
    intent: str
    """What was asked, cut to a few hundred characters."""
    state: PromiseState
    task_state: str
    """`queued`, `running`, or the kind of the event that ended the task."""
    revision: int = Field(default=0, ge=0)
    """How often the user has corrected it."""
    made_ms: int
    """When it was accepted: milliseconds since 1970 by the server's clock."""
    events: tuple[DelegationEvent, ...] = ()
    """What came of it, in order; at least all that may still have to be said."""
    receipts: tuple[Receipt, ...] = ()
    """The newest receipt of each event that has one."""


class SessionLedger(Message):
    """All promises of one session that are remembered, oldest first."""

    session_id: str
    runtime_id: str
    """The process that has the session now, or had it last."""
    epoch: int = Field(ge=0)
    """How often the session has changed its process."""
    elapsed_ms: int
    """Session time now, by the server's clock, had the session gone on without a break."""
    promises: tuple[Promise, ...] = ()
