"""A conversation on the operator's own screen, while it happens.

`LiveView` draws on a terminal, `PlainView` writes lines where there is none. Both are observers: an event only
changes state. They show what was said, to the person who runs the session and nobody else: nothing goes to a log.
Knows nothing of sessions, only of their events.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from microturn.protocols import TERMINAL, DelegationEvent, Floor, Receipt
from microturn.runtime.events import (
    BackgroundHealth,
    BargedIn,
    Delegated,
    DelegationMoved,
    ReceiptIssued,
    SessionEvent,
    SpeechBegan,
    SpeechEnded,
    TickDone,
    UserSaid,
)
from microturn.runtime.history import PAUSE_MS

REFRESH_HZ = 8
LINES = 14
"""Lines of conversation that are kept; a few more than fit beside the rest on a small terminal."""
ROWS = 6
"""Delegations that are shown, newest last."""
WORD_MS = 350
"""Pace at which words appear while they are spoken; the exact count comes when the speech has ended."""
_METER_WIDTH = 12
_METER_FLOOR_DB = -60.0

_FLOOR_STYLE: Final[dict[Floor, str]] = {
    Floor.NOBODY: "dim",
    Floor.USER: "bold cyan",
    Floor.ASSISTANT: "bold green",
    Floor.BOTH: "bold red",
}
_STATE_STYLE: Final[dict[str, str]] = {
    "final": "green",
    "failed": "red",
    "dead": "red",
    "expired": "yellow",
    "cancelled": "yellow",
}
_MARK: Final[dict[str, str]] = {"reply": "  ", "filler": "~ ", "woven": "◆ ", "backchannel": "· "}
_HEALTH_TEXT: Final[dict[str, str]] = {
    "ok": "the background is back",
    "no_worker": "no background worker",
    "unreachable": "the background cannot be reached",
}


@dataclass(slots=True)
class _Line:
    """One line of conversation: the user's turn, or an utterance of the assistant."""

    speaker: Literal["you", "assistant"]
    key: str
    text: str
    began_ms: float
    final: bool = False
    source: str = "reply"
    heard: int | None = None
    """Words heard, once the utterance has ended."""
    previous: str = ""
    """The utterance before this one in the same line; it may end when this one has begun."""
    before: int = 0
    """Words of earlier utterances that the line begins with."""
    unheard: int = 0
    """How many of them were not heard."""
    ended_ms: float = 0.0

    def goes_on_with(self, event: SpeechBegan) -> bool:
        """Whether an utterance follows this line without a pause, as words of one answer do."""
        is_reply = self.speaker == "assistant" and self.source == event.source == "reply"
        is_whole = self.heard == len(self.text.split()) and event.at_ms - self.ended_ms < PAUSE_MS
        return is_reply and (self.heard is None or is_whole)

    def go_on(self, event: SpeechBegan) -> None:
        """Take in the next utterance of the answer."""
        self.before = len(self.text.split())
        self.previous, self.key = self.key, event.utterance_id
        self.began_ms, self.heard = event.at_ms, None
        self.text = f"{self.text} {printable(event.text)}"

    def end(self, event: SpeechEnded) -> None:
        """Take in that an utterance of the line has ended."""
        if event.utterance_id != self.key:
            self.unheard += event.words_total - event.words_heard
        else:
            self.heard, self.ended_ms = self.before - self.unheard + event.words_heard, event.at_ms

    def render(self, now_ms: float) -> Text:
        """The line as far as it has come."""
        if self.speaker == "you":
            return Text.assemble(("you ", "cyan"), (self.text, "" if self.final else "bright_black"))
        words = self.text.split()
        begun = self.before + int((now_ms - self.began_ms) / WORD_MS) + 1
        said = self.heard if self.heard is not None else begun
        rest_style = "bright_black" if self.heard is None else "red strike"
        line = Text.assemble(("  µ ", "green"), (_MARK[self.source], "magenta"))
        line.append(" ".join(words[:said]), "italic" if self.source in ("filler", "backchannel") else "")
        if said < len(words):
            line.append(" " + " ".join(words[said:]), rest_style)
        return line


@dataclass(slots=True)
class _Task:
    """One delegation."""

    task_id: str
    intent: str
    began_ms: float
    state: str = "submitted"
    tool: str = ""
    ended_ms: float | None = None

    def note(self, event: DelegationEvent, at_ms: float) -> None:
        """Take in an event."""
        if self.ended_ms is not None:
            return
        self.state = event.kind
        if event.kind in TERMINAL:
            self.ended_ms = at_ms
        tool = event.detail.get("tool")
        if isinstance(tool, str):
            self.tool = printable(tool)


@dataclass(slots=True)
class _Scene:
    """All that is shown. Changed on the beat, read by the drawing thread, both under `lock`."""

    title: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    now_ms: float = 0.0
    floor: Floor = Floor.NOBODY
    level: float = 0.0
    ticks: int = 0
    late: int = 0
    missed: int = 0
    worst_step_ms: float = 0.0
    lines: deque[_Line] = field(default_factory=lambda: deque(maxlen=LINES))
    tasks: dict[str, _Task] = field(default_factory=dict)
    receipts: dict[str, int] = field(default_factory=dict)
    newest_receipt: Receipt | None = None
    health: str = "ok"

    def take(self, event: SessionEvent) -> None:
        """Change with an event."""
        match event:
            case TickDone():
                self._tick(event)
            case UserSaid():
                self._user(event)
            case SpeechBegan():
                self._speech(event)
            case SpeechEnded():
                for line in self.lines:
                    if line.speaker == "assistant" and event.utterance_id in (line.key, line.previous):
                        line.end(event)
            case _:
                self._take_background(event)

    def _take_background(self, event: SessionEvent) -> None:
        match event:
            case Delegated():
                self._delegated(event)
            case DelegationMoved():
                if (task := self.tasks.get(event.event.task_id)) is not None:
                    task.note(event.event, event.at_ms)
            case ReceiptIssued(receipt):
                self.receipts[receipt.state] = self.receipts.get(receipt.state, 0) + 1
                self.newest_receipt = receipt
            case BackgroundHealth():
                self.health = event.state
            case _:
                pass  # A barge-in shows in the words that are struck through.

    def _tick(self, tick: TickDone) -> None:
        self.now_ms = (tick.index + 1) * 200.0
        self.floor = tick.floor.holder
        self.level = tick.heard_peak
        self.ticks += 1
        self.missed += tick.count - 1
        self.late += tick.step_ms > 200
        self.worst_step_ms = max(self.worst_step_ms, tick.step_ms)

    def _user(self, event: UserSaid) -> None:
        transcript = event.transcript
        key = f"{'typed' if event.typed else 'said'} {transcript.turn}"
        text = printable(transcript.text)
        for line in self.lines:
            if line.speaker == "you" and line.key == key and not line.final:
                line.text, line.final = text or line.text, transcript.final
                return
        if text:
            self.lines.append(_Line("you", key, text, transcript.start_ms, final=transcript.final))

    def _speech(self, event: SpeechBegan) -> None:
        if self.lines and self.lines[-1].goes_on_with(event):
            self.lines[-1].go_on(event)
            return
        text = printable(event.text)
        self.lines.append(_Line("assistant", event.utterance_id, text, event.at_ms, source=event.source))

    def _delegated(self, event: Delegated) -> None:
        self.tasks[event.task_id] = _Task(event.task_id, printable(event.intent), event.at_ms)
        while len(self.tasks) > ROWS:
            ended = (task_id for task_id, task in self.tasks.items() if task.ended_ms is not None)
            del self.tasks[next(ended, next(iter(self.tasks)))]

    def header(self) -> Text:
        """Time, floor, level and the health of the beat."""
        text = Text.assemble(
            (f"{self.now_ms / 1000:7.1f} s  ", "bold"),
            (f"{self.floor.value:<9}", _FLOOR_STYLE[self.floor]),
            " ",
            meter(self.level),
            f"  ticks {self.ticks}  ",
            (f"late {self.late}", "red" if self.late else "dim"),
            "  ",
            (f"missed {self.missed}", "red" if self.missed else "dim"),
            f"  worst step {self.worst_step_ms:.0f} ms",
        )
        if self.health != "ok":
            text.append(f"  {_HEALTH_TEXT[self.health]}", "bold red")
        return text

    def task_table(self) -> Table:
        """The delegations, one row each."""
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        for name, ratio in (("task", None), ("intent", 1), ("state", None), ("age", None), ("tool", None)):
            table.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
        for task in self.tasks.values():
            age_s = ((task.ended_ms if task.ended_ms is not None else self.now_ms) - task.began_ms) / 1000
            table.add_row(
                Text(task.task_id[:6], "dim"),
                Text(task.intent),
                Text(task.state, _STATE_STYLE.get(task.state, "blue")),
                Text(f"{age_s:.1f} s"),
                Text(task.tool, "magenta"),
            )
        return table

    def receipt_line(self) -> Text:
        """How many pieces of results reached which state, and the newest."""
        counts = "  ".join(f"{state} {count}" for state, count in self.receipts.items())
        text = Text(f"receipts  {counts}", "dim")
        if (newest := self.newest_receipt) is not None:
            text.append(f"  newest {describe_receipt(newest)}")
        return text


class LiveView:
    """Draws a session on a terminal; an observer and a context manager. Drawing has a thread of its own."""

    def __init__(self, console: Console, title: str) -> None:
        self._scene = _Scene(title)
        self._live = Live(
            self, console=console, refresh_per_second=REFRESH_HZ, transient=False, vertical_overflow="crop"
        )

    def __call__(self, event: SessionEvent) -> None:
        """Take in an event; draws nothing."""
        with self._scene.lock:
            self._scene.take(event)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._scene.lock:
            parts: list[RenderableType] = [self._scene.header(), Text("")]
            parts += [line.render(self._scene.now_ms) for line in self._scene.lines]
            if self._scene.tasks:
                parts += [Text(""), self._scene.task_table()]
            if self._scene.receipts:
                parts.append(self._scene.receipt_line())
        yield Panel(Group(*parts), title=Text(self._scene.title, "bold"), border_style="bright_black")

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class PlainView:
    """Writes one line for each important event, with its session time and no control codes."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._sources: dict[str, tuple[str, str]] = {}

    def __call__(self, event: SessionEvent) -> None:
        """Write the event's line, if it has one."""
        match event:
            case UserSaid(transcript) if transcript.final and transcript.text.strip():
                self._write(transcript.end_ms, f"you: {transcript.text}")
            case SpeechBegan():
                self._sources[event.utterance_id] = (event.source, event.text)
                kind = "" if event.source == "reply" else f" ({event.source})"
                self._write(event.at_ms, f"assistant{kind}: {event.text}")
            case SpeechEnded():
                _, text = self._sources.pop(event.utterance_id, ("", ""))
                if event.words_heard < event.words_total:
                    unheard = " ".join(text.split()[event.words_heard :])
                    heard = f"{event.words_heard} of {event.words_total} words"
                    self._write(event.at_ms, f"cut off after {heard}; not heard: {unheard}")
            case TickDone() if event.count > 1:
                late = f"{event.count - 1} micro-turns made up, {event.lateness_ms:.0f} ms late"
                self._write((event.index + 1) * 200, late)
            case _:
                self._take_background(event)

    def _take_background(self, event: SessionEvent) -> None:
        match event:
            case Delegated():
                self._write(event.at_ms, f"delegated {event.task_id[:6]}: {event.intent}")
            case DelegationMoved(at_ms, moved):
                tool = moved.detail.get("tool")
                self._write(
                    at_ms, f"task {moved.task_id[:6]}: {moved.kind}{f' {tool}' if tool is not None else ''}"
                )
            case ReceiptIssued(receipt) if receipt.state not in ("queued", "woven"):
                self._write(receipt.session_ms, describe_receipt(receipt))
            case BargedIn():
                self._write(event.at_ms, "the user interrupted")
            case BackgroundHealth():
                self._write(event.at_ms, _HEALTH_TEXT[event.state])
            case _:
                pass

    def __enter__(self) -> Self:
        self._write(0, self._title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open."""

    def _write(self, at_ms: float, text: str) -> None:
        line = f"{at_ms / 1000:8.2f}  {printable(text)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False)


def open_view(console: Console, title: str) -> LiveView | PlainView:
    """The view that fits where the console writes to."""
    return LiveView(console, title) if console.is_terminal else PlainView(console, title)


def printable(text: str) -> str:
    """The text on one line and without control codes: what comes from tools must not steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def describe_receipt(receipt: Receipt) -> str:
    """A receipt in words."""
    words = f" {receipt.words_heard}/{receipt.words_total} words" if receipt.words_heard else ""
    return f"result {receipt.task_id[:6]}#{receipt.seq} {receipt.state}{words}"


def meter(level: float) -> Text:
    """A bar for a peak from 0 to 1 on a scale in decibels, red at full scale."""
    decibels = 20 * math.log10(max(level, 1e-6))
    filled = round(_METER_WIDTH * max(0.0, 1 - decibels / _METER_FLOOR_DB))
    style = "red" if level >= 0.999 else "green"
    return Text.assemble(("▮" * filled, style), ("▯" * (_METER_WIDTH - filled), "bright_black"))
