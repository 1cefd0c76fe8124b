from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from microturn.protocols import DelegationEvent
from microturn.runtime.bus import Lagged
from microturn.runtime.bus.tracks import EventBuffer, Track

pytestmark = pytest.mark.unit

MakePartial = Callable[[str, int, int], DelegationEvent]


def test_events_pass_in_order_and_each_once(partial: MakePartial) -> None:
    track = Track(0)
    passed = [
        event
        for entry, seq in enumerate([0, 1, 1, 0, 2])
        for event in track.admit(partial("t", 1, seq), f"{entry}-0")
    ]
    assert [event.seq for event in passed if isinstance(event, DelegationEvent)] == [0, 1, 2]
    assert track.settle(1) == ["0-0", "1-0"]


def test_a_gap_is_shown_before_the_event_that_follows_it(partial: MakePartial) -> None:
    track = Track(0, next_seq=2)
    event = partial("t", 1, 5)
    assert track.admit(event, "1-0") == (Lagged("t", first_missing=2, next_seq=5), event)
    assert track.next_seq == 6


def test_nothing_passes_after_the_terminal_event(partial: MakePartial) -> None:
    track = Track(0)
    final = DelegationEvent(task_id="t", attempt=1, seq=0, kind="final")
    assert track.admit(final, "1-0") == (final,)
    assert track.admit(partial("t", 2, 1), "2-0") == ()


def test_acknowledged_events_are_forgotten_and_the_others_kept(partial: MakePartial) -> None:
    track = Track(0)
    for seq in range(4):
        track.admit(partial("t", 1, seq), f"{seq}-0")
    track.settle(1)
    assert track.settle(9) == ["2-0", "3-0"]


@pytest.mark.anyio
async def test_a_full_buffer_holds_its_reader_until_an_event_is_taken(partial: MakePartial) -> None:
    buffer = EventBuffer(1)
    buffer.put(partial("t", 1, 0))
    read_on = anyio.Event()

    async def reader() -> None:
        await buffer.room()
        read_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        assert not read_on.is_set()
        assert await buffer.get() is not None
        await read_on.wait()


@pytest.mark.anyio
async def test_a_closed_buffer_gives_what_it_has_and_then_the_end(partial: MakePartial) -> None:
    buffer = EventBuffer(4)
    buffer.put(partial("t", 1, 0))
    buffer.close()
    assert await buffer.get() is not None
    assert await buffer.get() is None
