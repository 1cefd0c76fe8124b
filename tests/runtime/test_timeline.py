"""The picture of a conversation, and what is kept for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from pydantic import JsonValue

from microturn.protocols import (
    ContextPackage,
    Delegate,
    DelegationEvent,
    EventKind,
    Floor,
    FloorState,
    Speech,
    Transcript,
    UserError,
)
from microturn.runtime import timeline_picture
from microturn.runtime._errors import MissingExtraError
from microturn.runtime.events import (
    Delegated,
    DelegationMoved,
    SpeechBegan,
    SpeechEnded,
    TickDone,
    UserSaid,
)
from microturn.runtime.testing import Answer, Result, Stage, UserLine
from microturn.runtime.timeline import Timeline
from microturn.runtime.timeline_record import Envelope

pytestmark = pytest.mark.unit

LONG = "One two three four five six seven eight nine ten."


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved during a test."""
    figures: list[Figure] = []
    save = timeline_picture._save

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(timeline_picture, "_save", keep)
    return figures


def texts(figure: Figure) -> list[str]:
    return [artist.get_text() for artist in figure.findobj(Text) if isinstance(artist, Text)]


def picture(path: Path) -> npt.NDArray[np.float32]:
    return np.asarray(matplotlib.image.imread(path), np.float32)


def has_color(image: npt.NDArray[np.float32], color: str) -> bool:
    """Whether at least 20 pixels have a colour."""
    wanted = np.array([int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)])
    return int((np.abs(image[:, :, :3] - wanted).max(axis=2) < 0.02).sum()) >= 20


def work(_: ContextPackage) -> Sequence[Result]:
    return [Result(100, "accepted"), Result(2000, "final", Speech(text=LONG))]


async def staged(*, with_sound: bool = True) -> Timeline:
    """A conversation with a delegation that is cut off by the user."""
    lines = [UserLine(0, 1000, "what is it?"), UserLine(5100, 6000, "wait")]
    stage = Stage(
        lines,
        lambda text: Answer("One moment.", (Delegate(text, 0, 1000),)) if "?" in text else Answer(),
        work,
    )
    timeline = Timeline()
    stage.session._observers = (*stage.session._observers, timeline)
    if with_sound:
        seat = stage.host._seats["stage"]
        seat.taps = (timeline,)
        seat.player._taps = (*seat.player._taps, timeline)  # type: ignore[attr-defined]  # because Stage takes no taps
    await stage.run(9000)
    return timeline


def tick(timeline: Timeline, index: int, step_ms: float = 8.0, count: int = 1, peak: float = 0.0) -> None:
    timeline(TickDone(index, count, step_ms, 0.1, 0.0, FloorState(Floor.NOBODY), peak))


@pytest.mark.anyio
@pytest.mark.parametrize("with_sound", [True, False])
async def test_a_conversation_is_drawn_with_all_its_lanes(
    tmp_path: Path, drawn: list[Figure], with_sound: bool
) -> None:
    path = tmp_path / "a.png"
    (await staged(with_sound=with_sound)).draw(path)
    image = picture(path)
    for color in (
        timeline_picture._SOURCE["woven"],
        timeline_picture._FLOOR[Floor.USER],
        timeline_picture._RED,
    ):
        assert has_color(image, color), color
    words = texts(drawn[0])
    for part in ("person", "assistant", "floor", "background", "step", "what is it?", "wait"):
        assert part in words, part
    assert any("9.0 s of conversation, 2 user turns, 1 delegation" in text for text in words)
    assert any(" | " in text for text in words), "where speech was cut off is not marked"


@pytest.mark.anyio
async def test_the_outline_of_both_sides_is_kept_at_their_times() -> None:
    timeline = await staged()
    timeline.record.played = timeline._played.peaks
    sounding = np.flatnonzero(np.asarray(timeline.record.played) > 0)
    began_ms = sounding[0] * 20 + 200
    assert abs(began_ms - timeline.record.utterances[0].start_ms) <= 20
    assert len(timeline._heard.peaks) == 9000 / 20


def test_the_outline_does_not_depend_on_the_blocks() -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)
    whole, pieces = Envelope(16_000), Envelope(16_000)
    whole.push(sound)
    for start in range(0, 16_000, 777):
        pieces.push(sound[start : start + 777])
    assert whole.peaks == pieces.peaks
    assert len(whole.peaks) == 50


def test_late_steps_are_red(tmp_path: Path) -> None:
    for step_ms, red in ((150.0, False), (450.0, True)):
        timeline = Timeline()
        for index in range(25):
            tick(timeline, index, step_ms=step_ms if index in (7, 8, 9) else 5.0)
        path = tmp_path / f"{step_ms}.png"
        timeline.draw(path)
        lane = picture(path)[-180:-60, 130:]
        solid = timeline_picture._RED
        wanted = np.array([int(solid[n : n + 2], 16) / 255 for n in (1, 3, 5)])
        columns = (np.abs(lane[:, :, :3] - wanted).max(axis=2) < 0.02).sum(axis=0)
        assert bool(columns.max() > 20) is red


def test_tools_and_results_of_a_delegation_are_kept_with_their_times() -> None:
    timeline = Timeline()
    timeline(Delegated(1000, "t", "look it up", "default"))

    def move(at_ms: float, seq: int, kind: EventKind, detail: dict[str, JsonValue], text: str = "") -> None:
        speech = Speech(text=text) if text else None
        event = DelegationEvent(task_id="t", attempt=1, seq=seq, kind=kind, detail=detail, speech=speech)
        timeline(DelegationMoved(at_ms, event))

    move(1100, 1, "tool_started", {"tool": "search", "call": 0})
    move(1200, 2, "tool_started", {"tool": "search", "call": 1})
    move(1900, 3, "tool_finished", {"tool": "search", "call": 1})
    move(2000, 4, "partial", {}, "Found one.")
    move(2500, 5, "failed", {}, "Sorry.")
    move(9999, 6, "partial", {}, "Too late.")
    task = timeline.record.tasks["t"]
    assert [(tool.start_ms, tool.end_ms) for tool in task.tools] == [(1100, None), (1200, 1900)]
    assert task.spoken_ms == [2000, 2500]
    assert (task.state, task.end_ms) == ("failed", 2500)


def many(duration_s: int) -> Timeline:
    """Someone who says something long every 4 s, is answered, and delegates now and then."""
    timeline = Timeline()
    for index in range(duration_s * 5):
        tick(timeline, index, peak=0.3)
    for n in range(duration_s // 4):
        at_ms = n * 4000
        timeline(UserSaid(Transcript(n, f"this is remark number {n} of a talk", at_ms, at_ms + 1500, True)))
        timeline(SpeechBegan(at_ms + 1800, f"u{n}", "An answer that takes its time.", "reply", None))
        timeline(SpeechEnded(at_ms + 3600, f"u{n}", 6, 6))
        if n % 5 == 0:
            timeline(Delegated(at_ms, f"t{n}", f"find out number {n}", "default"))
    return timeline


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Labels inside the lanes that cover each other."""
    figure.canvas.draw()
    found = []
    for axis in figure.axes:
        boxes = [(text.get_text(), text.get_window_extent()) for text in axis.texts if text.get_text()]
        for n, (one, box) in enumerate(boxes):
            found += [(one, other) for other, another in boxes[n + 1 :] if box.overlaps(another)]
    return found


@pytest.mark.parametrize(("duration_s", "strips"), [(5, 1), (50, 1), (130, 3)])
def test_labels_never_cover_each_other_in_any_strip(
    tmp_path: Path, drawn: list[Figure], duration_s: int, strips: int
) -> None:
    many(duration_s).draw(tmp_path / "a.png")
    assert len(drawn[0].axes) == strips * 5
    assert overlapping(drawn[0]) == []


def test_hours_are_divided_into_strips_of_a_bounded_number_and_width() -> None:
    timeline = Timeline()
    for hours in (0.1, 0.5, 2, 24):
        tick(timeline, int(hours * 18_000) - 1)
        windows = timeline_picture._windows(timeline.record)
        assert len(windows) <= 40
        assert windows[0].width_in <= 24
        assert windows[-1].end_s == pytest.approx(hours * 3600)


def test_what_was_said_is_drawn_as_it_is(tmp_path: Path, drawn: list[Figure]) -> None:
    timeline = Timeline()
    for index in range(50):
        tick(timeline, index)
    said = r"it costs $5 or $\frac{6 日本 \x1b[31m"
    timeline(UserSaid(Transcript(0, said, 0, 2000, True)))
    timeline.draw(tmp_path / "a.png")
    assert said in texts(drawn[0])


def test_an_empty_conversation_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Timeline().draw(path)
    assert picture(path).shape[2] == 4


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the timeline"):
        Timeline().draw(tmp_path / "missing" / "a.png")


def test_without_matplotlib_the_extra_is_named_before_the_conversation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="speech"):
        Timeline()


def test_a_broken_matplotlib_is_told_when_drawing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timeline = Timeline()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match="matplotlib"):
        timeline.draw(tmp_path / "a.png")
