"""The journal: an attempt is told of every tool call of those before it, however much was said since."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from microturn.protocols import ContextPackage, DelegationEvent, EventKind
from microturn.runtime.bus import BusSettings, open_delegation_port, open_worker_port
from microturn.runtime.bus.stored_task import emitted, sections

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


def event(seq: int, kind: EventKind) -> DelegationEvent:
    return DelegationEvent(task_id="a", attempt=1, seq=seq, kind=kind, text=f"{kind} {seq}")


@pytest.mark.parametrize("stored_events", [4, 256])
async def test_tool_calls_are_told_to_a_second_attempt_even_where_other_events_were_forgotten(
    settings: BusSettings, package: MakePackage, stored_events: int
) -> None:
    few = replace(settings, stored_events=stored_events)
    calls: dict[int, EventKind] = {
        1: "tool_started",
        4: "tool_finished",
        5: "tool_started",
        19: "tool_started",
    }
    async with (
        open_delegation_port(few) as port,
        open_worker_port(few) as silent,
        open_worker_port(few) as other,
    ):
        await port.submit(package("a"))
        assert await silent.begin(await silent.take()) is not None
        await anext(port.events())
        for seq in range(1, 21):
            await silent.emit("a", 1, [event(seq, calls.get(seq, "partial"))])
            await anext(port.events())
            await port.acknowledge("a", seq)
        begun = await other.begin(await other.take())
        assert begun is not None
        told = [(each.seq, each.kind) for each in begun.emitted]
        assert told == sorted(told)
        assert [call for call in told if call[1] != "partial"] == sorted(calls.items())
        partials = sum(kind == "partial" for _, kind in told)
        assert partials == (3 if stored_events == 4 else 16)


def test_what_was_stored_twice_is_told_once() -> None:
    stored = [event(seq, "tool_started").encode() for seq in (5, 6)]
    journal = [event(seq, "tool_started").encode() for seq in (2, 4, 5, 6)]
    assert [each.seq for each in emitted(stored, journal)] == [2, 4, 5, 6]
    assert [each.seq for each in emitted([], journal)] == []


def test_lists_that_stand_one_after_another_are_taken_apart() -> None:
    assert sections(["2", "a", "b", "0", "1", "c"]) == [["a", "b"], [], ["c"]]
    assert sections([]) == []
