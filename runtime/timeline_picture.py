"""Draws a timeline: lanes for both speakers, the floor, the delegations and the steps, over one axis of time.

The only module that knows matplotlib. Labels are placed where there is room, shortened where there is little and
left out where there is none, so that five seconds and half an hour are both readable.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from microturn.protocols import MICRO_TURN_MS, Floor, UserError
from microturn.runtime._errors import MissingExtraError
from microturn.runtime.timeline_record import ENVELOPE_MS, Record, SpokenUtterance, TaskRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK: Final = "#1f2933"
_FAINT: Final = "#9aa5b1"
_GRID: Final = "#e4e7eb"
_RED: Final = "#d64545"
_USER: Final = "#2680c2"
_SOURCE: Final = {"reply": "#3f9142", "filler": "#b8a200", "woven": "#8662c7", "backchannel": "#8a8f98"}
_FLOOR: Final = {
    Floor.NOBODY: "#eef1f4",
    Floor.USER: _USER,
    Floor.ASSISTANT: "#3f9142",
    Floor.BOTH: _RED,
}
_STATE: Final = {
    "final": "#3f9142",
    "failed": _RED,
    "dead": _RED,
    "expired": "#de911d",
    "cancelled": "#9aa5b1",
}
_RUNNING: Final = "#627d98"

_DPI = 110
_FONT = 8.0
_CHARACTER = 0.58
"""Mean width of a character as a share of the font size, in the default font."""
_LEVELS = 3
"""Lines over a speaker's lane on which labels are staggered."""
_POINTS = 6000
"""Points of an outline that are drawn at most."""
_MOST_ROWS = 16
"""Rows of delegations; more of them share rows."""
_ROW_CHARACTERS = 24
"""How much of an intent must be readable before another delegation may follow in the row."""
_LANES: Final = ("person", "assistant", "floor", "background", "step")
_LEFT_IN, _RIGHT_IN, _TOP_IN, _GAP_IN = 0.95, 1.0, 0.7, 0.55
"""Margins, and the room under each strip for its axis."""


def draw_picture(record: Record, path: Path) -> None:
    """Write a PNG file. Blocks.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UserError: the file cannot be written there.
    """
    windows = _windows(record)
    rows = [_rows(_inside(record, window), window) for window in windows]
    heights = [[1.55, 1.55, 0.16, 0.15 + 0.3 * max(1, len(each)), 0.75, _GAP_IN] for each in rows]
    flat = [height for strip in heights for height in strip]
    figure = _figure(windows[0].width_in, sum(flat) + _TOP_IN)
    grid = figure.add_gridspec(
        len(flat),
        1,
        height_ratios=flat,
        hspace=0.12,
        left=_LEFT_IN / windows[0].width_in,
        right=1 - _RIGHT_IN / windows[0].width_in,
        top=1 - _TOP_IN / figure.get_figheight(),
        bottom=0.0,
    )
    for n, window in enumerate(windows):
        first = n * len(_LANES) + n
        axes = [figure.add_subplot(grid[first + lane]) for lane in range(len(_LANES))]
        _draw_strip(figure, axes, record, rows[n], window)
    _draw_title(figure, record)
    _save(figure, path)


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of the conversation that one strip of the picture shows, and how much of it a text covers."""

    start_s: float
    end_s: float
    width_in: float

    @property
    def _inches_per_s(self) -> float:
        return (self.width_in - _LEFT_IN - _RIGHT_IN) / (self.end_s - self.start_s)

    @property
    def label_end_s(self) -> float:
        """Where the last label must end, in the margin."""
        return self.end_s + (_RIGHT_IN - 0.1) / self._inches_per_s

    def characters(self, span_s: float) -> int:
        """How many characters fit into a span of time."""
        return int(span_s * self._inches_per_s * 72 / (_FONT * _CHARACTER))

    def seconds(self, characters: float) -> float:
        """How much time a text covers."""
        return characters * _FONT * _CHARACTER / 72 / self._inches_per_s

    def begins(self, start_ms: float) -> bool:
        """Whether something begins in it."""
        return self.start_s <= start_ms / 1000 < self.end_s

    def shows(self, start_ms: float, end_ms: float) -> bool:
        """Whether it shows a part of something."""
        return start_ms / 1000 < self.end_s and end_ms / 1000 >= self.start_s


@dataclass(frozen=True, slots=True)
class _Label:
    at_s: float
    text: str
    color: str


def _windows(record: Record) -> list[_Window]:
    """Strips of up to a minute while six of them suffice, of up to 5 minutes while 40 do, then of equal parts."""
    end_s = record.end_ms / 1000
    strips = int(np.clip(np.ceil(end_s / 60), 1, max(6, min(40, np.ceil(end_s / 300)))))
    length_s = end_s / strips
    width_in = float(np.clip(9 + length_s / 5, 11, 24))
    return [_Window(n * length_s, (n + 1) * length_s, width_in) for n in range(strips)]


def _draw_strip(
    figure: Figure, axes: Sequence[Axes], record: Record, rows: list[list[TaskRun]], window: _Window
) -> None:
    for axis, name in zip(axes, _LANES, strict=True):
        _prepare(axis, name)
        axis.set_xlim(window.start_s, window.end_s)
    _draw_person(axes[0], record, window)
    _draw_assistant(axes[1], record, window)
    _draw_floor(axes[2], record, window)
    _draw_tasks(axes[3], rows, record, window)
    _draw_steps(axes[4], record, window)
    for axis in axes:
        axis.set_xlim(window.start_s, window.end_s)
        axis.tick_params(labelbottom=axis is axes[-1])
    axes[-1].set_xlabel("session time in seconds", fontsize=_FONT, color=_INK)
    _draw_arrows(figure, axes[1], axes[3], rows, record, window)


def _figure(width_in: float, height_in: float) -> Figure:
    try:
        from matplotlib.figure import Figure as MatplotlibFigure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "speech", "drawing a timeline") from error
    return MatplotlibFigure(figsize=(width_in, height_in), dpi=_DPI, facecolor="white")


def _prepare(axis: Axes, name: str) -> None:
    axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=_FONT + 1, color=_INK, labelpad=8)
    axis.tick_params(length=0, labelsize=_FONT - 1, colors=_INK)
    axis.set_yticks([])
    axis.grid(axis="x", color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)


def _draw_person(axis: Axes, record: Record, window: _Window) -> None:
    times_s, peaks = _user_outline(record, window)
    axis.fill_between(times_s, -peaks, peaks, color=_USER, linewidth=0, alpha=0.85)
    shown = [turn for turn in record.turns if window.shows(turn.start_ms, turn.end_ms)]
    for turn in shown:
        if turn.typed:
            axis.plot(turn.end_ms / 1000, 0, marker="s", markersize=5, color=_USER)
        else:
            _span(axis, turn.start_ms, turn.end_ms, _USER)
    labels = [
        _Label(turn.start_ms / 1000, turn.text, _USER) for turn in shown if window.begins(turn.start_ms)
    ]
    _draw_labels(axis, labels, window)


def _draw_assistant(axis: Axes, record: Record, window: _Window) -> None:
    times_s, peaks = _outline(record.played, MICRO_TURN_MS, window)
    labels = []
    for utterance in record.utterances:
        end_ms = record.end_ms if utterance.end_ms is None else utterance.end_ms
        if not window.shows(utterance.start_ms, end_ms):
            continue
        _draw_utterance(axis, utterance, end_ms, times_s, peaks)
        if window.begins(utterance.start_ms):
            color = _SOURCE[utterance.source]
            labels.append(_Label(utterance.start_ms / 1000, _heard_text(utterance), color))
    for at_ms in filter(window.begins, record.barge_ins_ms):
        axis.axvline(at_ms / 1000, color=_RED, linewidth=1, linestyle=(0, (3, 2)), ymax=0.45)
    _draw_labels(axis, labels, window)


def _draw_utterance(
    axis: Axes,
    utterance: SpokenUtterance,
    end_ms: float,
    times_s: npt.NDArray[np.float64],
    peaks: npt.NDArray[np.float64],
) -> None:
    color = _SOURCE[utterance.source]
    start_s, end_s = utterance.start_ms / 1000, end_ms / 1000
    _span(axis, utterance.start_ms, end_ms, color)
    inside = (times_s >= start_s) & (times_s <= end_s)
    if inside.any():
        axis.fill_between(times_s[inside], -peaks[inside], peaks[inside], color=color, linewidth=0)
    else:
        axis.broken_barh([(start_s, end_s - start_s)], (-0.4, 0.8), color=color)
    if utterance.was_cut_off:
        axis.plot(end_s, 0, marker="X", markersize=7, color=_RED, markeredgecolor="white")


def _heard_text(utterance: SpokenUtterance) -> str:
    """What was heard, and a bar where it was cut off."""
    if not utterance.was_cut_off:
        return utterance.text
    words = utterance.text.split()
    return " ".join([*words[: utterance.words_heard], "|", *words[utterance.words_heard :]])


def _draw_floor(axis: Axes, record: Record, window: _Window) -> None:
    begins = [at_ms for at_ms, _ in record.floor]
    spans: dict[Floor, list[tuple[float, float]]] = {}
    for (begin_ms, holder), end_ms in zip(record.floor, [*begins[1:], record.end_ms], strict=False):
        if window.shows(begin_ms, end_ms):
            spans.setdefault(holder, []).append((begin_ms / 1000, (end_ms - begin_ms) / 1000))
    for holder, shown in spans.items():
        axis.broken_barh(shown, (0, 1), color=_FLOOR[holder], linewidth=0)
    axis.set_ylim(0, 1)


def _draw_tasks(axis: Axes, rows: list[list[TaskRun]], record: Record, window: _Window) -> None:
    axis.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    for y, row in enumerate(rows):
        for task, following in zip(row, [*row[1:], None], strict=True):
            _draw_task(axis, task, y, record.end_ms)
            until_s = window.label_end_s if following is None else following.start_ms / 1000
            _draw_intent(axis, task, y, until_s, window)
    if not rows:
        axis.text(
            0.01,
            0.5,
            "no delegation",
            transform=axis.transAxes,
            va="center",
            fontsize=_FONT,
            color=_FAINT,
        )


def _draw_task(axis: Axes, task: TaskRun, y: float, end_ms: float) -> None:
    stop_ms = end_ms if task.end_ms is None else task.end_ms
    color = _STATE.get(task.state, _RUNNING)
    start_s, length_s = task.start_ms / 1000, max(stop_ms - task.start_ms, 40) / 1000
    axis.broken_barh([(start_s, length_s)], (y - 0.3, 0.6), color=color, alpha=0.3, linewidth=0)
    axis.broken_barh([(start_s, length_s)], (y + 0.22, 0.08), color=color, linewidth=0)
    for tool in task.tools:
        tool_s = ((stop_ms if tool.end_ms is None else tool.end_ms) - tool.start_ms) / 1000
        axis.broken_barh(
            [(tool.start_ms / 1000, max(tool_s, 0.04))], (y - 0.3, 0.14), color=_INK, alpha=0.75, linewidth=0
        )
    for at_ms in task.spoken_ms:
        axis.plot(
            at_ms / 1000, y, marker="D", markersize=4.5, color=_SOURCE["woven"], markeredgecolor="white"
        )
    if task.end_ms is None:
        axis.plot(stop_ms / 1000, y, marker=">", markersize=5, color=color, clip_on=False)


def _draw_intent(axis: Axes, task: TaskRun, y: float, until_s: float, window: _Window) -> None:
    tools = ", ".join(dict.fromkeys(tool.name for tool in task.tools))
    text = f"{task.intent}  [{tools}]" if tools else task.intent
    if task.state not in ("final", "submitted", "accepted"):
        text = f"{task.state}: {text}"
    start_s = max(task.start_ms / 1000, window.start_s) + window.seconds(1)
    shown = _shortened(text, window.characters(until_s - start_s) - 2)
    _write(axis, start_s, y, shown, _INK)


def _draw_arrows(
    figure: Figure,
    assistant: Axes,
    background: Axes,
    rows: list[list[TaskRun]],
    record: Record,
    window: _Window,
) -> None:
    """From each result to the speech that it became."""
    from matplotlib.patches import ConnectionPatch

    places = {task.task_id: (task, y) for y, row in enumerate(rows) for task in row}
    for utterance in record.utterances:
        if utterance.task_id not in places or not window.begins(utterance.start_ms):
            continue
        task, y = places[utterance.task_id]
        ready = [at_ms for at_ms in task.spoken_ms if at_ms <= utterance.start_ms]
        if ready and window.begins(ready[-1]):
            arrow = ConnectionPatch(
                xyA=(ready[-1] / 1000, y - 0.1),
                coordsA=background.transData,
                xyB=(utterance.start_ms / 1000, -1.0),
                coordsB=assistant.transData,
                arrowstyle="-|>",
                mutation_scale=9,
                color=_SOURCE["woven"],
                linewidth=1.1,
                alpha=0.6,
                zorder=5,
            )
            figure.add_artist(arrow)


def _draw_steps(axis: Axes, record: Record, window: _Window) -> None:
    ends_s = np.asarray(record.tick_ends_ms) / 1000
    chosen = (ends_s > window.start_s) & (ends_s <= window.end_s + 1e-6)
    times_s, steps = ends_s[chosen], np.asarray(record.step_ms)[chosen]
    if not len(steps):
        return
    late = steps > MICRO_TURN_MS
    width = max(0.6, min(6.0, 900 / len(steps)))
    for which, color in ((~late, _RUNNING), (late, _RED)):
        axis.vlines(times_s[which], 0, steps[which], color=color, linewidth=width)
    top = max(20.0, float(steps.max()) * 1.25)
    axis.set_ylim(0, top)
    axis.set_yticks([0, round(float(steps.max()))] if steps.max() >= 1 else [0])
    if top > MICRO_TURN_MS / 2:
        axis.axhline(MICRO_TURN_MS, color=_RED, linewidth=0.8, linestyle=(0, (4, 3)))
        axis.set_ylim(0, max(top, MICRO_TURN_MS * 1.15))
    p50, p99 = np.percentile(steps, (50, 99))
    text = f"ms   p50 {p50:.0f}   p99 {p99:.0f}   worst {steps.max():.0f}   late {int(late.sum())}"
    axis.text(0.002, 1.0, text, transform=axis.transAxes, va="bottom", fontsize=_FONT - 0.5, color=_INK)


def _draw_title(figure: Figure, record: Record) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tasks, turns = len(record.tasks), len(record.turns)
    title = (
        f"{record.end_ms / 1000:.1f} s of conversation, {turns} user turn{'s' * (turns != 1)}, "
        f"{tasks} delegation{'s' * (tasks != 1)}, {record.missed} missed micro-turn{'s' * (record.missed != 1)}"
    )
    left = _LEFT_IN / figure.get_figwidth()
    top = 1 - 0.12 / figure.get_figheight()
    figure.text(left, top, title, fontsize=_FONT + 3, color=_INK, weight="bold", va="top")
    handles: list[Patch | Line2D] = [Patch(color=_USER, label="person")]
    handles += [Patch(color=color, label=source) for source, color in _SOURCE.items()]
    handles += [
        Line2D([], [], marker="X", linestyle="", color=_RED, markersize=6, label="cut off"),
        Line2D(
            [], [], marker="D", linestyle="", color=_SOURCE["woven"], markersize=4, label="result to be said"
        ),
        Patch(color=_INK, alpha=0.75, label="tool"),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 1 - 0.28 / figure.get_figheight()),
        ncols=len(handles),
        fontsize=_FONT - 0.5,
        frameon=False,
        borderaxespad=0,
        borderpad=0.2,
        columnspacing=1.4,
        handlelength=1.1,
        labelcolor=_INK,
    )


def _draw_labels(axis: Axes, labels: Sequence[_Label], window: _Window) -> None:
    """Stagger labels on lines over a lane; what fits nowhere is left out."""
    axis.set_ylim(-1.15, 1.2 + 0.62 * _LEVELS)
    free_s = [window.start_s] * _LEVELS
    for n, label in enumerate(labels):
        level = _level(free_s, label.at_s)
        if level is None:
            continue
        following = labels[n + _LEVELS].at_s if n + _LEVELS < len(labels) else window.label_end_s
        shown = _shortened(label.text, min(window.characters(following - label.at_s) - 1, 90))
        if shown:
            free_s[level] = label.at_s + window.seconds(len(shown) + 2)
            y = 1.35 + 0.62 * level
            axis.plot([label.at_s, label.at_s], [1.0, y + 0.3], color=label.color, linewidth=0.8, alpha=0.7)
            _write(axis, label.at_s + window.seconds(0.5), y, shown, label.color)


def _level(free_s: list[float], at_s: float) -> int | None:
    """The lowest line that is free from `at_s` on."""
    return next((level for level, free in enumerate(free_s) if free <= at_s), None)


def _shortened(text: str, characters: int) -> str:
    """The text in the room there is; nothing where less than a word would be left."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) <= characters:
        return text
    return f"{text[: characters - 1].rstrip()}…" if characters >= 5 else ""


def _write(axis: Axes, at_s: float, y: float, text: str, color: str) -> None:
    # Speech may hold dollar signs, which are no formula here.
    axis.text(at_s, y, text, color=color, fontsize=_FONT, va="center", parse_math=False)


def _span(axis: Axes, start_ms: float, end_ms: float, color: str) -> None:
    axis.broken_barh(
        [(start_ms / 1000, max(end_ms - start_ms, 40) / 1000)], (-1, 2), color=color, alpha=0.13, linewidth=0
    )


def _user_outline(record: Record, window: _Window) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The person's outline from the sound, or from the peak of each step where there was no tap."""
    if record.heard:
        return _outline(record.heard, 0.0, window)
    ends_s = np.asarray(record.tick_ends_ms) / 1000
    starts_s = np.concatenate([[0.0], ends_s])[: len(ends_s)]
    peaks = _visible(np.asarray(record.heard_peaks, float))
    return np.stack([starts_s, ends_s], 1).ravel(), np.repeat(peaks, 2)


def _outline(
    peaks: Sequence[float] | array[float], start_ms: float, window: _Window
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Times in seconds and peaks of the part of an outline that a window shows."""
    visible = _visible(np.asarray(peaks, float))
    times_s = (start_ms + (np.arange(len(visible)) + 0.5) * ENVELOPE_MS) / 1000
    inside = (times_s >= window.start_s) & (times_s < window.end_s)
    times_s, visible = times_s[inside], visible[inside]
    step = max(1, -(-len(visible) // _POINTS))
    padded = np.pad(visible, (0, -len(visible) % step)).reshape(-1, step)
    return times_s[::step], padded.max(axis=1) if padded.size else np.zeros(0)


def _visible(peaks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scaled to the lane by the loudest moment; the square root lets quiet speech be seen."""
    loudest = float(peaks.max(initial=0.0))
    return np.asarray(np.sqrt(peaks / loudest) if loudest > 0 else peaks, float)


def _inside(record: Record, window: _Window) -> list[TaskRun]:
    tasks = record.tasks.values()
    return [t for t in tasks if window.shows(t.start_ms, record.end_ms if t.end_ms is None else t.end_ms)]


def _rows(tasks: Iterable[TaskRun], window: _Window) -> list[list[TaskRun]]:
    """Delegations in rows, each in the first row in which the one before leaves room."""
    rows: list[list[TaskRun]] = []
    free_s: list[float] = []
    for task in tasks:
        start_s = task.start_ms / 1000
        n = next((n for n, free in enumerate(free_s) if free <= start_s), len(rows))
        if n >= _MOST_ROWS:
            n = min(range(len(rows)), key=free_s.__getitem__)
        if n == len(rows):
            rows.append([])
            free_s.append(0.0)
        rows[n].append(task)
        end_s = np.inf if task.end_ms is None else task.end_ms / 1000
        free_s[n] = max(end_s, start_s + window.seconds(_ROW_CHARACTERS))
    return rows


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    try:
        with warnings.catch_warnings():
            # A script that the font does not have is drawn as boxes; that is no reason to warn.
            warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
            figure.savefig(path, format="png", dpi=_DPI)
    except OSError as error:
        raise UserError(
            f"cannot write the timeline to {str(path)!r}: {error.strerror or error}; choose another place"
        ) from None
