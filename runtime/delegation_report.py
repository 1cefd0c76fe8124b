"""What the life of a delegation looks like to an operator: each moment on a line, and a bar of where the time went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from microturn.runtime.delegation_life import PHASES, Life, Moment, Phase
from microturn.runtime.live_view import printable

SHOWN_ID = 12
SHOWN_NAME = 8
"""Characters of a session's and an agent's name in the list, so that it fits into 80 columns."""
BAR_WIDTH = 60
"""Characters of the bar; it fits into 80 columns with its ends."""
_CONTENT_CHARS = 300
"""Characters of a recorded content that are shown. Our choice; `--json` has all of it."""
_STYLES: Final[dict[Phase, str]] = {
    "turn": "cyan",
    "queue": "yellow",
    "agent": "blue",
    "model": "magenta",
    "tool": "bright_blue",
    "pause": "bright_yellow",
    "speech": "green",
    "idle": "bright_black",
}
_MEANINGS: Final[dict[Phase, str]] = {
    "turn": "the user speaks",
    "queue": "waits for a worker",
    "agent": "the agent's own work",
    "model": "models",
    "tool": "tools",
    "pause": "waits for a pause",
    "speech": "is said",
    "idle": "nothing recorded",
}


def report(life: Life) -> Iterator[RenderableType]:
    """The whole life: a head, its moments in order of time, and where the time went."""
    yield Text(f"delegation {printable(life.task_id)}", "bold")
    yield Text(_summary(life))
    yield Text(f"session {printable(life.session_id) or '?'}  trace {life.trace_id}", "dim")
    yield _timeline(life.moments)
    yield _bar(life)
    yield from _legend(life)


def table(lives: Sequence[Life]) -> Table:
    """One row for each, without a word of what was said."""
    grid = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for column in ("began (UTC)", "delegation", "session", "agent", "state", "tries", "took", "heard"):
        grid.add_column(column, no_wrap=True)
    for life in lives:
        grid.add_row(
            time.strftime("%m-%d %H:%M:%S", time.gmtime(life.began_ns / 1e9)),
            Text(printable(life.task_id[:SHOWN_ID])),
            Text(printable(life.session_id[:SHOWN_NAME])),
            Text(printable(life.agent[:SHOWN_NAME])),
            Text(printable(life.state), _state_style(life.state)),
            str(life.attempts),
            _span(life.took_ms),
            f"{life.words_heard}/{life.words_total}",
        )
    return grid


def _summary(life: Life) -> str:
    tries = f", attempt {life.attempts}" if life.attempts > 1 else ""
    heard = f", {life.words_heard} of {life.words_total} words heard" if life.words_total else ""
    return f"{printable(life.state)}{tries} in {_span(life.took_ms)}{heard}"


def _timeline(moments: Sequence[Moment]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    for moment in moments:
        indent = "  " * moment.depth
        grid.add_row(
            f"{moment.at_ms / 1000:9.3f} s",
            Text(indent + printable(moment.what), "red" if moment.is_bad else ""),
            _span(moment.took_ms) if moment.took_ms is not None else "",
        )
        for content in moment.content:
            grid.add_row("", Text(f"{indent}  {printable(content[:_CONTENT_CHARS])}", "italic"), "")
    return grid


def _bar(life: Life) -> Text:
    bar = Text("  ")
    total_ms, done_ms, drawn = life.took_ms or 1.0, 0.0, 0
    for phase in PHASES:
        done_ms += life.shares_ms[phase]
        until = round(BAR_WIDTH * done_ms / total_ms)
        bar.append("█" * (until - drawn), _STYLES[phase])
        drawn = until
    return bar


def _legend(life: Life) -> Iterator[Text]:
    for phase in PHASES:
        share_ms = life.shares_ms[phase]
        if share_ms > 0:
            percent = 100 * share_ms / life.took_ms
            yield Text.assemble(
                ("  █ ", _STYLES[phase]), f"{_MEANINGS[phase]:<22}{_span(share_ms):>10} {percent:4.0f} %"
            )


def _state_style(state: str) -> str:
    return {"final": "green", "failed": "red", "dead": "red", "lost": "red"}.get(state, "yellow")


def _span(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"
