"""What stands in for a user's task, an engine, and the bus that takes in events, in the tests of the background agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import anyio
from pydantic import JsonValue

from microturn.background_agent import Control, Emit
from microturn.background_agent.effect_guard import EffectGuard
from microturn.background_agent.journal import Journal
from microturn.background_agent.narrator import Narrator
from microturn.background_agent.tool_runner import ToolRunner
from microturn.background_agent.transcript import Call, Outcome
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Speech
from microturn.tools import ToolRegistry

Behaviour: TypeAlias = Callable[[Emit, Control], Awaitable[None]]


def package(
    intent: str = "what does the machine cost", *, task_id: str = "t", **changes: object
) -> ContextPackage:
    """A user's task. What is changed beyond its words and its id is not checked."""
    plain = ContextPackage(
        task_id=task_id,
        session_id="s",
        idempotency_key=task_id,
        intent=intent,
        said_start_ms=0,
        said_end_ms=5000,
        local_time="2026-11-22T16:45:00+01:00",
        deadline_s=60,
    )
    return plain.model_copy(update=changes)


def correct(control: Control, text: str) -> None:
    """Let the user correct a running task."""
    control.updates.append(text)
    control.notify()


class OneWayEngine:
    """An engine that does what a function says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        await self._behaviour(emit, control)


async def resume_or_call(
    package: ContextPackage,
    tools: ToolRegistry,
    emit: Emit,
    control: Control,
    calls: Sequence[tuple[str, dict[str, JsonValue]]],
) -> list[Outcome]:
    """Take up what an earlier attempt left, or make these calls where there was none; return what came of them."""
    journal = Journal.read(control.emitted, control.revision)
    with TemporaryDirectory() as folder:
        runner = ToolRunner(
            package,
            tools,
            emit,
            narrator=Narrator(package.task_id, emit, control),
            guard=EffectGuard(package),
            data_dir=Path(folder),
            journal=journal,
            control=control,
            clock=WorkClock(),
        )
        outcomes = await runner.resume()
        if not outcomes:
            numbered = [Call(journal.next_index + n, *call) for n, call in enumerate(calls)]
            outcomes = [outcome for outcome, _ in await runner.run(numbered)]
    return outcomes


@dataclass
class Sent:
    """Collects what an engine emits, and lets a test act on it."""

    events: list[DelegationEvent] = field(default_factory=list)
    on_event: Callable[[DelegationEvent], None] = lambda _: None
    has_words: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(
        self,
        kind: EventKind,
        *,
        speech: Speech | None = None,
        text: str = "",
        detail: dict[str, JsonValue] | None = None,
    ) -> None:
        event = DelegationEvent(
            task_id="t",
            attempt=1,
            seq=len(self.events) + 1,
            kind=kind,
            speech=speech,
            text=text,
            detail=detail or {},
        )
        self.events.append(event)
        if speech is not None:
            self.has_words.set()
        self.on_event(event)
        await anyio.lowlevel.checkpoint()

    def kinds(self) -> list[EventKind]:
        return [event.kind for event in self.events]

    def spoken(self) -> list[str]:
        return [event.speech.text for event in self.events if event.speech is not None]

    def of(self, kind: EventKind) -> list[DelegationEvent]:
        return [event for event in self.events if event.kind == kind]
