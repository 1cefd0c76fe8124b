"""Draws the pictures of the command line in docs/pictures, from made-up figures: `python docs/make_pictures.py`."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console, RenderableType

from microturn.protocols import Floor
from microturn.protocols.runtime_status import RuntimeStatus, SessionStatus
from microturn.runtime.bus.dead_letters import DeadLetter
from microturn.runtime.bus.overview import LaneLoad, Overview, ServerLoad, WorkerSeen
from microturn.runtime.bus.status_board import PostedStatus
from microturn.runtime.delegation_life import Life, Moment, Phase
from microturn.runtime.delegation_report import report
from microturn.runtime.top_view import TopView

PICTURES = Path(__file__).parent / "pictures"
NOW_MS = 1_790_000_000_000
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)
"""What rich would have a reader's browser fetch from elsewhere; its own fixed-width letters do as well."""


def a_runtime(
    name: str, place: int, p99_ms: float, *sessions: SessionStatus, alive: bool = True
) -> PostedStatus:
    """A runtime that holds the beat, or has died three minutes ago."""
    status = RuntimeStatus(
        runtime_id=name,
        host=f"voice-{place}",
        pid=4100 + place,
        sessions=sessions,
        session_count=len(sessions),
        ticks=300,
        tick_p50_ms=p99_ms / 2.4,
        tick_p99_ms=p99_ms,
        missed=2 if p99_ms > 200 else 0,
    )
    return PostedStatus(name, alive, status, 0.6 if alive else 184.0)


def an_overview() -> Overview:
    """A small bus on a busy morning."""
    kitchen = SessionStatus(session_id="kitchen", floor=Floor.ASSISTANT, age_s=312)
    office = SessionStatus(
        session_id="office-2", floor=Floor.USER, age_s=1880, open_tasks=2, task_ids=("c41f09", "77ab30")
    )
    porch = SessionStatus(
        session_id="porch", floor=Floor.NOBODY, age_s=42, open_tasks=1, task_ids=("5d20e1",)
    )
    return Overview(
        tenant="home",
        now_ms=NOW_MS,
        is_used=True,
        servers=(ServerLoad("", "Valkey 9.1.2", 14_200_000, 256_000_000),),
        lanes=(
            LaneLoad(0, "urgent", 0, 1, 0, None, 0.8),
            LaneLoad(0, "tasks", 1, 2, 1, 0.4, 6.3),
        ),
        workers=(WorkerSeen("2210-8a61f2c09b3e", 0.2, 2), WorkerSeen("2214-c07d55e1aa90", 0.4, 1)),
        runtimes=(
            a_runtime("9f2c61d07b3a", 1, 88.0, kitchen, office),
            a_runtime("41be80aa6c1d", 2, 231.0, porch, alive=False),
        ),
        dead_count=1,
        dead=(DeadLetter(0, f"{NOW_MS - 640_000}-0", "b8d1f2467a90cc31", "attempts", 9_400),),
    )


def draw(name: str, title: str, *parts: RenderableType) -> None:
    """Write what a terminal of 80 columns would show as an SVG."""
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=80, record=True, file=nowhere, force_terminal=True, color_system="truecolor")
        for part in parts:
            console.print(part)
        PICTURES.mkdir(exist_ok=True)
        svg = console.export_svg(title=title, unique_id="microturn")
        (PICTURES / name).write_text(_FONTS.sub("", svg), "utf-8")


def a_life() -> Life:
    """A delegation whose answer is spoken in two pieces, the second of which is cut off."""
    moments = (
        Moment(0, "the user's words begin", 1640),
        Moment(1640, "handed over to the agent default"),
        Moment(1643, "attempt 1: taken by worker voice-1:2210"),
        Moment(1650, "invoke_agent default (loop)", 3060, 1),
        Moment(1655, "chat qwen3-8b (1120 tokens in, 41 out)", 910, 2),
        Moment(2570, "execute_tool weather (subprocess)", 640, 2),
        Moment(2900, "event 3 sent: partial", None, 1),
        Moment(2903, "piece 3 arrives and waits for a pause"),
        Moment(3103, "piece 3 is woven into speech", 200),
        Moment(3215, "chat qwen3-8b (1302 tokens in, 58 out)", 1480, 2),
        Moment(4705, "event 6 sent: final", None, 1),
        Moment(4708, "piece 6 arrives and waits for a pause"),
        Moment(4712, "attempt 1 over: final", 3069),
        Moment(4730, "piece 3 heard, to word 6 of 6"),
        Moment(4908, "piece 6 is woven into speech", 200),
        Moment(7420, "piece 6 interrupted, to word 9 of 14", is_bad=True),
    )
    shares: dict[Phase, float] = {
        "turn": 1640,
        "queue": 3,
        "agent": 15,
        "model": 910,
        "tool": 528,
        "pause": 0,
        "speech": 4139,
        "idle": 185,
    }
    return Life(
        "c41f0977ab305d20e1b8d1f2467a90cc",
        "office-2",
        "default",
        "7d1c0e5b2f9a48d6a3b1c5e7f9024681",
        NOW_MS * 1_000_000,
        7420,
        "final",
        1,
        15,
        20,
        moments,
        shares,
    )


if __name__ == "__main__":
    draw("top.svg", "microturn top", TopView(an_overview(), height=24))
    draw("delegation.svg", "microturn delegation show c41f", *report(a_life()))
