"""Calls with an effect when a worker dies at any point of them: none is made twice, and nobody is told a lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import anyio
import pytest
from pydantic import JsonValue

from microturn.background_agent import (
    LOCAL,
    REMOTE,
    AgentEngine,
    ChatClient,
    EmitResult,
    LoopEngine,
    ModelProfile,
    ReflexEngine,
)
from microturn.background_agent.attempt import Attempt
from microturn.background_agent.journal import UNKNOWN_TEXT, Journal
from microturn.background_agent.scripted_model import CallTools, Line, Say, ScriptedModel, scripted_model
from microturn.background_agent.testing import InMemoryWorkerBus, TaskRecord
from microturn.background_agent.tool_runner import DOUBT
from microturn.protocols import DelegationEvent, Speech
from microturn.tools import Phrase, Spoken, ToolContext, ToolRegistry, tool
from tests.background_agent.stand_ins import package

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

Point = Literal[
    "before started", "after started", "after effect", "before finished", "after finished", "before end"
]
POINTS: tuple[Point, ...] = (
    "before started",
    "after started",
    "after effect",
    "before finished",
    "after finished",
    "before end",
)
KNOWN_UNDONE: frozenset[Point] = frozenset({"before started"})
KNOWN_DONE: frozenset[Point] = frozenset({"after finished", "before end"})
KINDS = {"started": "tool_started", "finished": "tool_finished", "end": "final"}


class Death:
    """Kills the worker at one point, once: whoever gets there stays there, and the test takes the worker away."""

    def __init__(self, point: Point | None) -> None:
        self.point = point
        self.has_come = anyio.Event()

    async def at(self, point: str) -> None:
        if point == self.point:
            self.point = None
            self.has_come.set()
            await anyio.sleep_forever()


class MortalBus(InMemoryWorkerBus):
    """A bus whose worker may die before and after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.death = Death(None)

    async def emit(
        self, task_id: str, attempt: int, events: Sequence[DelegationEvent], *, finish: bool = False
    ) -> EmitResult:
        kinds = {event.kind for event in events}
        names = [name for name, kind in KINDS.items() if kind in kinds]
        for name in names:
            await self.death.at(f"before {name}")
        result = await super().emit(task_id, attempt, events, finish=finish)
        for name in names:
            await self.death.at(f"after {name}")
        return result


class World:
    """Two tools with an effect, one that only reads, and what they have done."""

    def __init__(self) -> None:
        self.bus = MortalBus()
        self.sent: list[str] = []
        self.booked: dict[str, str] = {}
        self.bookings = 0
        self.reads = 0

        @tool(side_effect="unsafe", phrases=[Phrase("send {text}")])
        async def send_message(text: str) -> Spoken:
            """Send a message.

            Args:
                text: What it says.
            """
            self.sent.append(text)
            await self.bus.death.at("after effect")
            return Spoken("The message was sent.", "It is sent.")

        @tool(side_effect="idempotent", phrases=[Phrase("book {what}")])
        async def book(context: ToolContext, what: str) -> Spoken:
            """Book something, and remind of it.

            Args:
                what: What to book.
            """
            self.bookings += 1
            self.booked[context.idempotency_key] = what
            await context.say(
                Speech(text=f"Time for {what}.", not_before_ms=9_000, supersede_key=f"b:{what}")
            )
            await self.bus.death.at("after effect")
            return Spoken("It was booked.", "It is booked.")

        @tool(phrases=[Phrase("look up {what}")])
        async def look_up(what: str) -> str:
            """Look something up.

            Args:
                what: What to look up.
            """
            self.reads += 1
            await self.bus.death.at("after effect")
            return f"{what} is blue."

        self.tools = ToolRegistry([send_message, book, look_up])

    async def attempt(
        self,
        intent: str,
        script: Sequence[Line],
        die: Point | None = None,
        *,
        reflex: bool,
        profile: ModelProfile,
    ) -> ScriptedModel:
        """Run one attempt on a script until it ends or dies."""
        self.bus.death = death = Death(die)
        await (self.bus.redeliver("t") if "t" in self.bus.tasks else self.bus.submit(package(intent)))
        entry = await self.bus.take()
        begun = await self.bus.begin(entry)
        assert begun is not None
        attempt = Attempt(self.bus, entry, begun, lease_s=60, backlog_limit=500)
        with TemporaryDirectory() as folder:
            async with (
                scripted_model(*script) as model,
                LoopEngine(
                    ChatClient(model.url, "m", limits=profile.limits), profile, data_dir=Path(folder)
                ) as loop,
            ):
                engine: AgentEngine = ReflexEngine(loop, data_dir=Path(folder)) if reflex else loop
                with anyio.fail_after(5):
                    async with anyio.create_task_group() as tasks:

                        async def runs() -> None:
                            await attempt.run(engine, self.tools)
                            tasks.cancel_scope.cancel()

                        tasks.start_soon(runs)
                        await death.has_come.wait()
                        tasks.cancel_scope.cancel()
        assert death.has_come.is_set() == (die is not None)
        return model

    @property
    def record(self) -> TaskRecord:
        return self.bus.tasks["t"]


def call(profile: ModelProfile, name: str, **arguments: JsonValue) -> Line:
    if profile.dialect == "native_tools":
        return CallTools(((name, json.dumps(arguments)),))
    return Say(json.dumps({"tool": name, "arguments": arguments}))


def final(profile: ModelProfile, text: str) -> Line:
    return Say(text if profile.dialect == "native_tools" else json.dumps({"final": text}))


def spoken_of_doubt(record: TaskRecord, name: str) -> int:
    return record.spoken().count(DOUBT.format(name=name))


@pytest.mark.parametrize("profile", [LOCAL, REMOTE], ids=["local", "remote"])
@pytest.mark.parametrize("reflex", [False, True], ids=["loop", "reflex"])
@pytest.mark.parametrize("point", POINTS)
async def test_an_unsafe_call_is_made_once_at_most(point: Point, reflex: bool, profile: ModelProfile) -> None:
    world = World()
    first = [call(profile, "send_message", text="hello"), final(profile, "I sent your message.")]
    # The model insists: where it is not told that the call was made, it asks for it in other words too.
    insists = [
        call(profile, "send_message", text="hello!"),
        call(profile, "send_message", text="hello"),
        final(profile, "So much for the message."),
    ]
    if point in KNOWN_DONE | KNOWN_UNDONE:
        insists = insists[1:]
    if reflex and point == "before started":
        insists = []  # The reflex answers again, as nothing was begun.
    await world.attempt("send hello", first, point, reflex=reflex, profile=profile)
    before = list(world.sent)
    await world.attempt("send hello", insists, reflex=reflex, profile=profile)
    assert world.record.kinds()[-1] == "final"
    if point in KNOWN_UNDONE:
        assert (before, world.sent) == ([], ["hello"])
    else:
        assert world.sent == before
        assert before == ([] if point == "after started" else ["hello"])
    is_in_doubt = point not in KNOWN_DONE | KNOWN_UNDONE
    assert spoken_of_doubt(world.record, "send message") == is_in_doubt
    texts = [event.text for event in world.record.events if event.kind == "tool_finished"]
    assert (UNKNOWN_TEXT in texts) == is_in_doubt


@pytest.mark.parametrize("reflex", [False, True], ids=["loop", "reflex"])
@pytest.mark.parametrize("point", POINTS)
async def test_an_idempotent_call_is_made_under_one_key_and_its_reminder_is_there_once(
    point: Point, reflex: bool
) -> None:
    world = World()
    first = [call(LOCAL, "book", what="the sauna"), final(LOCAL, "I booked the sauna.")]
    second = first if point == "before started" else [final(LOCAL, "I booked the sauna.")]
    await world.attempt("book the sauna", first, point, reflex=reflex, profile=LOCAL)
    await world.attempt("book the sauna", second, reflex=reflex, profile=LOCAL)
    assert world.record.kinds()[-1] == "final"
    assert world.booked == {"t/0": "the sauna"}
    assert world.bookings <= 2
    reminders = [s for s in world.record.speeches() if s.not_before_ms is not None]
    assert len(reminders) == 1
    assert spoken_of_doubt(world.record, "book") == 0


@pytest.mark.parametrize("point", POINTS)
async def test_a_call_that_only_reads_is_made_again_where_its_result_is_not_known(point: Point) -> None:
    world = World()
    first = [call(LOCAL, "look_up", what="the sky"), final(LOCAL, "The sky is blue.")]
    second = [first[1]] if point in KNOWN_DONE else first
    await world.attempt("look up the sky", first, point, reflex=False, profile=LOCAL)
    model = await world.attempt("look up the sky", second, reflex=False, profile=LOCAL)
    assert world.record.kinds()[-1] == "final"
    assert world.reads == (2 if point in ("after effect", "before finished") else 1)
    assert "the sky is blue." in model.messages()[-1][1]


async def test_a_third_attempt_still_does_not_make_the_call() -> None:
    world = World()
    again = [
        call(LOCAL, "send_message", text="hi"),
        call(LOCAL, "send_message", text="hello"),
        final(LOCAL, "So much for that."),
    ]
    await world.attempt("send hello", again[1:], "after started", reflex=False, profile=LOCAL)
    await world.attempt("send hello", again, "after finished", reflex=False, profile=LOCAL)
    model = await world.attempt("send hello", again, reflex=False, profile=LOCAL)
    assert world.sent == []
    assert spoken_of_doubt(world.record, "send message") == 1
    assert any("not known whether this was done" in text for _, text in model.messages())
    assert world.record.kinds()[-1] == "final"


async def test_an_idempotent_call_that_is_interrupted_twice_keeps_its_key() -> None:
    world = World()
    script = [call(LOCAL, "book", what="the sauna"), final(LOCAL, "Booked.")]
    await world.attempt("book the sauna", script, "after effect", reflex=False, profile=LOCAL)
    await world.attempt("book the sauna", script, "after effect", reflex=False, profile=LOCAL)
    await world.attempt("book the sauna", [script[1]], reflex=False, profile=LOCAL)
    assert (world.bookings, world.booked) == (3, {"t/0": "the sauna"})
    assert world.record.kinds()[-1] == "final"


async def test_another_call_after_an_interrupted_one_gets_another_key() -> None:
    world = World()
    await world.attempt(
        "book the sauna", [call(LOCAL, "book", what="the sauna")], "after effect", reflex=False, profile=LOCAL
    )
    second = [call(LOCAL, "book", what="a towel"), final(LOCAL, "Both are booked.")]
    await world.attempt("book the sauna", second, reflex=False, profile=LOCAL)
    assert world.booked == {"t/0": "the sauna", "t/1": "a towel"}


async def test_a_correction_in_the_middle_of_a_call_repeats_none() -> None:
    world = World()
    await world.attempt(
        "book the sauna",
        [call(LOCAL, "book", what="the sauna")],
        "after finished",
        reflex=False,
        profile=LOCAL,
    )
    world.bus.update("t", "and a towel for the sauna")
    second = [
        call(LOCAL, "book", what="the sauna"),
        final(LOCAL, "The sauna is booked."),
    ]
    model = await world.attempt("book the sauna", second, reflex=False, profile=LOCAL)
    assert world.bookings == 1
    assert "and a towel" in model.messages(0)[-1][1]


def event(kind: str, seq: int, detail: dict[str, JsonValue]) -> DelegationEvent:
    return DelegationEvent.model_validate(
        {"task_id": "t", "attempt": 1, "seq": seq, "kind": kind, "detail": detail, "text": f"text {seq}"}
    )


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"tool": 7, "call": 0, "arguments": {}},
        {"tool": "x", "call": "0", "arguments": {}},
        {"tool": "x", "call": True, "arguments": {}},
        {"tool": "x", "call": -1, "arguments": {}},
        {"tool": "x", "call": 10**30, "arguments": {}},
        {"tool": "x", "call": 0.5, "arguments": {}},
        {"tool": "x", "call": 0, "arguments": [1]},
        {"tool": "x", "call": 0, "arguments": None},
    ],
)
def test_a_detail_that_names_no_call_is_passed_over(detail: dict[str, JsonValue]) -> None:
    assert Journal.read([event("tool_started", 1, detail), event("tool_finished", 2, detail)]) == Journal()


def test_the_newest_reads_and_all_effects_are_shown_again() -> None:
    events = []
    for number in range(8):
        name = "send_message" if number % 4 == 0 else "look_up"
        events.append(event("tool_finished", number, {"tool": name, "call": number, "arguments": {}}))
    shown = Journal.read(events).newest(2, ["send_message"])
    assert [outcome.call.index for outcome in shown] == [0, 4, 6, 7]
