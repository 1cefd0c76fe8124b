"""The seam between a worker and whatever reasons: an engine runs one package and emits what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
from pydantic import JsonValue

from microturn.protocols import SETTLED, ContextPackage, DelegationEvent, EventKind, Receipt, Speech
from microturn.tools import Load, ToolRegistry, nothing_kept


class Emit(Protocol):
    """Sends one event of the running task; numbering, fencing and delivery are the worker's business."""

    async def __call__(
        self,
        kind: EventKind,
        *,
        speech: Speech | None = None,
        text: str = "",
        detail: dict[str, JsonValue] | None = None,
    ) -> None:
        """Send the event. A cancellation point; raises nothing that the engine could handle.

        The record of a tool call, a question and the end are stored when it returns; anything else is on its way, in
        order, and is sent even if the caller is cancelled.
        """


@dataclass(slots=True)
class Control:
    """What the worker tells a running engine. Each run has its own; the lists in it belong to the attempt."""

    attempt: int = 1
    emitted: Sequence[DelegationEvent] = ()
    """What was sent for this task, oldest first, by earlier attempts and by earlier runs of this one; what this run
    sends is appended. It may have been spoken, and cannot be unsaid."""
    updates: list[str] = field(default_factory=list)
    """Corrections from the user since the task began, oldest first; appended to while the engine runs."""
    remaining_s: float = 60.0
    """Time left when the run began."""
    receipts: dict[int, Receipt] = field(default_factory=dict)
    """What has become of the words in `emitted`, by number, where it is known; kept up to date while it runs."""
    answers: Mapping[int, str] = field(default_factory=dict)
    """What the user has answered to questions in `emitted`, by number; empty for one that the user will not answer.
    Kept up to date while it runs."""
    load: Load = nothing_kept
    """Loads what a reference in the package stands for."""
    revision: int = field(init=False)
    """How many of the corrections what is emitted now takes into account: at first, those from before the run."""
    _changed: anyio.Event = field(init=False, default_factory=anyio.Event)
    """Set at the next change of what is told here."""

    def __post_init__(self) -> None:
        self.revision = len(self.updates)

    @property
    def has_news(self) -> bool:
        """Whether there are corrections that the engine has not taken in."""
        return len(self.updates) > self.revision

    async def answer(self, seq: int, timeout_s: float) -> str | None:
        """Wait for the user's answer to the question in event `seq`; empty where the user will not answer.

        None where there is none: `timeout_s` seconds have passed, the question was given up before it was understood,
        or the user has corrected the task instead.
        """
        with anyio.move_on_after(timeout_s):
            while seq not in self.answers and not self.has_news and not self._was_given_up(seq):
                await self._changed.wait()
        return self.answers.get(seq)

    async def until_news(self) -> None:
        """Wait for a correction that the engine has not taken in."""
        while not self.has_news:
            await self._changed.wait()

    def notify(self) -> None:
        """Wake what waits for an answer or a correction; whoever changes what is told here calls it afterwards."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _was_given_up(self, seq: int) -> bool:
        receipt = self.receipts.get(seq)
        return receipt is not None and receipt.state in SETTLED - {"heard"}

    def news(self) -> tuple[str, ...]:
        """Take in the corrections that came since the run began or since the last call, oldest first.

        What is emitted from then on counts as heeding them. An engine that never calls it is run again with them
        when it ends.
        """
        new = tuple(self.updates[self.revision :])
        self.revision = len(self.updates)
        return new


class AgentEngine(Protocol):
    """Reasons about one package with tools. Cancelled by its cancel scope."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do the task; the last event emitted is `final` or `failed`.

        Where that end came before a correction from the user was heeded it is refused: the run is cancelled, and
        the engine is run again with a `control` that has the correction and all that was sent.

        Raises:
            UnavailableError: the model cannot be reached. The worker reports the task as failed.
        """
