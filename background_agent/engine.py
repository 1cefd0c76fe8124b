"""The seam between a worker and whatever reasons: an engine runs one package and emits what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Speech
from microturn.tools import ToolRegistry


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
        """Send the event. A cancellation point; raises nothing that the engine could handle."""


@dataclass(slots=True)
class Control:
    """What the worker tells a running engine."""

    attempt: int = 1
    emitted: Sequence[DelegationEvent] = ()
    """What earlier attempts sent. It may have been spoken, and cannot be unsaid."""
    updates: list[str] = field(default_factory=list)
    """Corrections from the user since the task began, oldest first; appended to while the engine runs."""
    remaining_s: float = 60.0
    """Time left when the attempt began."""


class AgentEngine(Protocol):
    """Reasons about one package with tools. Cancelled by its cancel scope."""

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        """Do the task; the last event emitted is `final` or `failed`.

        Raises:
            UnavailableError: the model cannot be reached. The worker reports the task as failed.
        """
