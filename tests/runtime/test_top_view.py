from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from microturn.protocols import Floor
from microturn.protocols.runtime_status import RuntimeStatus, SessionStatus
from microturn.runtime.bus.dead_letters import DeadLetter
from microturn.runtime.bus.overview import LaneLoad, Overview, ServerLoad, WorkerSeen
from microturn.runtime.bus.status_board import PostedStatus
from microturn.runtime.top_view import TopView, age

pytestmark = pytest.mark.unit

NOW_MS = 1_790_000_000_000


def sessions(count: int) -> tuple[SessionStatus, ...]:
    return tuple(
        SessionStatus(session_id=f"session-{number}-of-a-long-name", floor=Floor.USER, age_s=5, open_tasks=1)
        for number in range(count)
    )


def runtime(name: str, *given: SessionStatus, alive: bool = True, age_s: float = 0.5) -> PostedStatus:
    status = RuntimeStatus(
        runtime_id=name, host="a-machine-of-a-long-name", pid=123456, sessions=given, session_count=len(given)
    )
    return PostedStatus(name, alive, status, age_s)


def overview(**more: object) -> Overview:
    base = Overview(
        tenant="home",
        now_ms=NOW_MS,
        is_used=True,
        servers=(ServerLoad("", "Valkey 9.1.2", 14_200_000, 256_000_000),),
        lanes=(LaneLoad(0, "urgent", 0, 0, 0, None, None), LaneLoad(0, "tasks", 0, 0, 0, None, None)),
        workers=(WorkerSeen("4711-0123456789ab", 0.2, 1),),
        runtimes=(),
        dead_count=0,
        dead=(),
    )
    return replace(base, **more)  # type: ignore[arg-type]  # because each test names its own fields


def crowded() -> Overview:
    return overview(
        runtimes=tuple(runtime(f"runtime-{number:04}-0123", *sessions(30)) for number in range(40)),
        workers=tuple(WorkerSeen(f"worker-{number}-0123456789abcdef", 0.1, 2) for number in range(30)),
        dead_count=900,
        dead=tuple(DeadLetter(0, f"{NOW_MS}-{number}", "f" * 32, "attempts", 9) for number in range(5)),
    )


def shown(view: TopView, width: int = 80) -> str:
    console = Console(width=width, height=24, record=True, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


@pytest.mark.parametrize("height", [24, 30, 60])
@pytest.mark.parametrize(
    "trouble", ["", "cannot look at the bus: the Redis server does not answer. Trying again."]
)
def test_however_much_there_is_it_fits_on_the_screen(height: int, trouble: str) -> None:
    lines = shown(TopView(crowded(), trouble, height)).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for heading in ("runtime ", "session ", "worker ", "dead "):
        assert heading in text
    assert "more" in text


def test_without_a_height_all_is_shown() -> None:
    text = shown(TopView(crowded()))
    assert text.count("session-") == 40 * 30
    assert "more" not in text


def test_room_that_some_need_not_goes_to_others() -> None:
    few = overview(runtimes=(runtime("r1", *sessions(10)),))
    lines = shown(TopView(few, height=24)).splitlines()
    assert sum("session-" in line for line in lines) == 10


@pytest.mark.parametrize(
    ("lanes", "workers", "words"),
    [
        ((LaneLoad(0, "tasks", 3, 0, 3, 9.0, None),), (), "Tasks wait and nobody works on them"),
        ((LaneLoad(0, "tasks", 0, 0, 0, None, None),), (), "Nothing runs."),
    ],
)
def test_what_needs_an_operator_is_said_in_words(
    lanes: tuple[LaneLoad, ...], workers: tuple[WorkerSeen, ...], words: str
) -> None:
    assert words in shown(TopView(overview(lanes=lanes, workers=workers)))


def test_a_runtime_that_died_and_one_that_says_nothing_look_different() -> None:
    text = shown(
        TopView(
            overview(
                runtimes=(
                    runtime("gone", *sessions(1), alive=False, age_s=184),
                    PostedStatus("quiet", True, None, None),
                )
            )
        )
    )
    assert "died 3 min ago" in text and "cut off" in text
    assert "quiet" in text and "nothing" in text
    assert "1 runtime  0 sessions" in text  # that of the dead one does not run


def test_a_name_from_the_bus_is_no_markup_and_steers_no_terminal() -> None:
    foul = SessionStatus(session_id="[red]x[/]\x1b[2J", floor=Floor.USER, age_s=1)
    text = shown(TopView(overview(runtimes=(runtime("r1", foul),))))
    assert "[red]x[/] [2J" in text


def test_trouble_is_shown_alone_where_nothing_was_seen_yet() -> None:
    assert shown(TopView(None, "no server answers")).strip() == "no server answers"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0.0 s"), (0.44, "0.4 s"), (30, "30 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_spans_are_told_in_the_unit_in_which_they_are_read(seconds: float, text: str) -> None:
    assert age(seconds) == text
