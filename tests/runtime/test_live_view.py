"""What the operator sees, on a terminal and without one."""

from __future__ import annotations

import io
import time
from typing import Literal, TypeAlias

import pytest
from rich.console import Console

from microturn.protocols import (
    ContextPackage,
    Delegate,
    DelegationEvent,
    Floor,
    FloorState,
    Speech,
    Transcript,
)
from microturn.runtime.events import (
    BackgroundHealth,
    BargedIn,
    Delegated,
    DelegationMoved,
    SessionEvent,
    SpeechBegan,
    SpeechEnded,
    TickDone,
    UserSaid,
)
from microturn.runtime.live_view import LiveView, PlainView, meter, open_view
from microturn.runtime.testing import Answer, Result, Stage, UserLine

pytestmark = pytest.mark.unit

QUESTION = "what is the tallest mountain?"
ANSWER = "It is Mount Everest as far as anybody knows today."


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=110, height=40, color_system="truecolor")


def shown(view: LiveView, *, styled: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        force_terminal=styled,
        width=110,
        height=40,
        color_system="truecolor" if styled else None,
    )
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def tick(index: int = 9, count: int = 1, floor: Floor = Floor.USER, step_ms: float = 12.0) -> TickDone:
    return TickDone(index, count, step_ms, 0.2, 0.0, FloorState(floor), 0.25)


def say(text: str, turn: int = 0, *, final: bool = True) -> UserSaid:
    return UserSaid(Transcript(turn, text, 200, 1000, final))


Source: TypeAlias = Literal["reply", "filler", "woven"]


def began(text: str, source: Source = "reply", at_ms: float = 1200) -> SpeechBegan:
    return SpeechBegan(at_ms, "u1", text, source, None)


def view_of(*events: SessionEvent) -> LiveView:
    view = LiveView(terminal(), "microturn")
    for event in events:
        view(event)
    return view


async def staged() -> list[SessionEvent]:
    """The events of a conversation with a delegation and a barge-in."""

    def work(_: ContextPackage) -> list[Result]:
        return [Result(100, "accepted"), Result(2000, "final", Speech(text=ANSWER))]

    lines = [UserLine(0, 1000, QUESTION), UserLine(5100, 6000, "wait")]
    stage = Stage(
        lines,
        lambda text: Answer("One moment.", (Delegate(text, 0, 1000),)) if "?" in text else Answer(),
        work,
    )
    await stage.run(9000)
    return stage.events


def test_the_header_tells_time_floor_and_the_health_of_the_beat() -> None:
    text = shown(view_of(tick(9, count=3, step_ms=450.0), BackgroundHealth(2000, "no_worker")))
    for part in (
        "2.0 s",
        "user",
        "ticks 1",
        "late 1",
        "missed 2",
        "worst step 450 ms",
        "no background worker",
    ):
        assert part in text


def test_a_partial_transcript_is_grey_until_it_is_final() -> None:
    view = view_of(say("what is", final=False), say("what is the", final=False))
    grey = shown(view, styled=True)
    assert "\x1b[90mwhat is the" in grey
    assert grey.count("what is") == 1
    view(say("what is the time?"))
    assert "\x1b[90mwhat" not in shown(view, styled=True)
    assert shown(view).count("what is") == 1


def test_words_appear_while_they_are_spoken() -> None:
    view = view_of(began("one two three four five six"), tick(9))
    early = shown(view, styled=True)
    assert "one two three" in early
    assert "\x1b[90m four five six" in early


def test_words_that_were_cut_off_are_struck_through() -> None:
    view = view_of(began("one two three four"), SpeechEnded(2000, "u1", 2, 4), tick())
    assert "\x1b[9;31m three four" in shown(view, styled=True)


def test_an_answer_that_comes_word_by_word_is_one_line() -> None:
    view = LiveView(terminal(), "microturn")
    for number, word in enumerate(("one", "two", "three")):
        view(SpeechBegan(1000 + 400 * number, f"u{number}", word, "reply", None))
        if number:
            view(SpeechEnded(1010 + 400 * number, f"u{number - 1}", 1, 1))
    assert "µ   one two three" in shown(view)
    view(SpeechEnded(2400, "u2", 0, 1))
    assert "\x1b[9;31m three" in shown(view, styled=True)
    view(SpeechBegan(2500, "u3", "four", "reply", None))
    view(SpeechEnded(2900, "u3", 1, 1))
    view(SpeechBegan(3500, "u4", "five", "reply", None))
    assert [line.split("µ")[1].split("│")[0].strip() for line in shown(view).splitlines() if "µ" in line] == [
        "one two three",
        "four",
        "five",
    ]


@pytest.mark.parametrize(("source", "mark"), [("filler", "~ "), ("woven", "◆ ")])
def test_fillers_and_woven_results_are_marked(source: Source, mark: str) -> None:
    assert f"{mark}hello" in shown(view_of(began("hello", source), tick()))


def test_a_delegation_shows_its_state_age_and_newest_tool() -> None:
    moved = DelegationEvent(
        task_id="abcdef12", attempt=1, seq=1, kind="tool_started", detail={"tool": "calculator"}
    )
    text = shown(
        view_of(Delegated(1000, "abcdef12", "add it up", "default"), DelegationMoved(1500, moved), tick(19))
    )
    for part in ("abcdef ", "add it up", "tool_started", "3.0 s", "calculator"):
        assert part in text
    done = DelegationEvent(task_id="abcdef12", attempt=1, seq=2, kind="final")
    view = view_of(Delegated(1000, "abcdef12", "add it up", "default"), DelegationMoved(2500, done), tick(49))
    assert "1.5 s" in shown(view)


def test_many_delegations_do_not_grow_the_table() -> None:
    events = [Delegated(n, f"task{n:04}", "work", "default") for n in range(50)]
    text = shown(view_of(*events))
    assert text.count("work") == 6


def test_control_codes_in_what_was_said_never_reach_the_screen() -> None:
    hostile = "\x1b[2Jhello\x07 [red]you[/red]\r\nthere"
    text = shown(view_of(say(hostile), began(hostile), tick(99)))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[red]you[/red]") == 2


def test_the_level_meter_is_full_only_at_full_scale() -> None:
    assert meter(1.0).plain == "▮" * 12
    assert meter(0.0).plain == "▯" * 12
    assert 0 < meter(0.1).plain.count("▮") < 12


@pytest.mark.anyio
async def test_a_whole_conversation_is_drawn() -> None:
    view = view_of(*await staged())
    text = shown(view)
    for part in ("you what is the tallest", "One moment.", "◆ It is Mount"):
        assert part in text
    assert "receipts" in text
    assert "interrupted 1" in text


@pytest.mark.anyio
async def test_drawing_happens_on_a_thread_of_its_own_and_leaves_the_terminal_usable() -> None:
    console = terminal()
    with LiveView(console, "microturn") as view:
        for event in await staged():
            view(event)
    text = written(console)
    assert "Mount" in text
    assert text.rstrip().endswith("\x1b[?25h")


def test_an_event_costs_a_small_part_of_a_micro_turn() -> None:
    view = view_of()
    began_s = time.process_time()
    for n in range(2000):
        view(tick(n))
        view(say("something that was said", n))
    assert (time.process_time() - began_s) / 4000 < 0.001


@pytest.mark.anyio
async def test_without_a_terminal_there_is_one_line_per_important_event() -> None:
    console = Console(file=io.StringIO(), width=80)
    view = open_view(console, "microturn")
    assert isinstance(view, PlainView)
    with view:
        for event in await staged():
            view(event)
        view(tick(50, count=3))
        view(BackgroundHealth(9000, "unreachable"))
    text = written(console)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "    0.00  microturn"
    assert f"    1.00  you: {QUESTION}" in lines
    for part in (
        "assistant: One moment.",
        "delegated ",
        ": accepted",
        f"assistant (woven): {ANSWER}",
        "the user interrupted",
        "cut off after",
        "interrupted ",
        "2 micro-turns made up",
        "the background cannot be reached",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) < 20


def test_a_terminal_gets_the_drawn_view() -> None:
    assert isinstance(open_view(terminal(), "microturn"), LiveView)


def test_a_barge_in_alone_changes_nothing_on_the_screen() -> None:
    assert shown(view_of(tick())) == shown(view_of(tick(), BargedIn(2000)))


def test_plain_lines_hold_no_control_codes_either() -> None:
    console = Console(file=io.StringIO(), width=80)
    PlainView(console, "t")(say("\x1b[31mred\nalert"))
    assert written(console) == "    1.00  you:  [31mred alert\n"
