"""What `microturn top` shows of a bus: one screen of at most so many lines, the most pressing first.

A pure picture of an `Overview`; has names and numbers, never a word that was said. Fits into 80 columns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from microturn.protocols.runtime_status import SessionStatus
from microturn.runtime.bus.keys import LANES
from microturn.runtime.bus.overview import LaneLoad, Overview, ServerLoad
from microturn.runtime.bus.status_board import STALE_AFTER_S, PostedStatus
from microturn.runtime.live_view import printable

SHOWN_ID = 12
"""Characters of an id that are shown."""
LATE_TICK_MS = 200.0
"""A step that takes longer than a micro-turn makes the next one late."""
LONG_WAIT_S = 5.0
"""A task that has waited so long is shown in red: its user has heard nothing for so long. Our choice."""
_FIXED_LINES = 10
"""Head, lanes and headings; what is left of the height is shared among the lists."""
_FLOOR_STYLE = {"nobody": "dim", "user": "cyan", "assistant": "green", "both": "red"}


@dataclass(frozen=True, slots=True)
class TopView:
    """One picture; drawn for the width and height of the console that it is printed on."""

    overview: Overview | None
    """None where nothing could be seen yet."""
    trouble: str = ""
    """Why this is not how it is now; empty where it is."""
    height: int | None = None
    """Lines that it may take; None for as many as there are."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        if self.trouble:
            yield Text(self.trouble, "bold red", overflow="fold")
        if self.overview is None:
            return
        seen = self.overview
        yield _head(seen)
        yield _sums(seen)
        yield from _hints(seen)
        lists = [_runtimes(seen), _sessions(seen), _workers(seen), _dead(seen)]
        yield _lanes(seen.lanes).table()
        for each, room in zip(lists, self._rooms([len(each.rows) for each in lists]), strict=True):
            if each.rows:
                yield each.table(room)

    def _rooms(self, rows: Sequence[int]) -> list[int]:
        """Share the lines among the lists: each gets three, and what is left goes to the first that need more."""
        if self.height is None:
            return list(rows)
        rooms = [min(count, 3) for count in rows]
        left = self.height - _FIXED_LINES - sum(rooms) - bool(self.trouble)
        for place, count in enumerate(rows):
            more = max(0, min(left, count - rooms[place]))
            rooms[place] += more
            left -= more
        return rooms


@dataclass(frozen=True, slots=True)
class _Listing:
    """A table that can be cut to the room that there is."""

    columns: tuple[str, ...]
    rows: list[list[RenderableType]] = field(default_factory=list)

    def add(self, *cells: RenderableType) -> None:
        """Add a row. Text is shown as it is: a name from the bus is no markup, and steers no terminal."""
        self.rows.append([Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells])

    def table(self, room: int | None = None) -> RenderableType:
        """The rows, of which the last says how many more there are where they have no room."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        for name in self.columns:
            table.add_column(name, no_wrap=True, overflow="ellipsis")
        kept = len(self.rows) if room is None or len(self.rows) <= room else max(0, room - 1)
        for row in self.rows[:kept]:
            table.add_row(*row)
        if kept == len(self.rows):
            return table
        return Group(table, Text(f"and {len(self.rows) - kept} more", "dim"))


def sessions_table(overview: Overview) -> RenderableType:
    """All sessions that are told of, newest last; those of a process that died are marked."""
    return _sessions(overview).table()


def count(number: int, what: str) -> str:
    """A number with its noun: `1 worker`, `2 workers`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _head(seen: Overview) -> Text:
    clock = time.strftime("%H:%M:%S", time.gmtime(seen.now_ms / 1000))
    servers = ", ".join(_server(server) for server in seen.servers)
    return Text.assemble(
        ("microturn top", "bold"),
        f"  tenant {seen.tenant}  {servers}  ",
        (f"{clock} UTC", "dim"),
        overflow="ellipsis",
        no_wrap=True,
    )


def _server(server: ServerLoad) -> str:
    megabytes = f"{server.memory_bytes / 1e6:.1f} MB"
    limit = f" of {server.limit_bytes / 1e6:.0f}" if server.limit_bytes else ""
    return f"{server.name + ' ' if server.name else ''}{server.program} {megabytes}{limit}"


def _sums(seen: Overview) -> Text:
    live = [each for each in seen.runtimes if each.is_alive]
    sessions = sum(each.status.session_count for each in live if each.status is not None)
    running = sum(lane.running for lane in seen.lanes)
    waiting = sum(lane.waiting for lane in seen.lanes)
    dead_style = "bold red" if seen.dead_count else "dim"
    return Text.assemble(
        f"{count(len(live), 'runtime')}  {count(sessions, 'session')}  ",
        (count(len(seen.workers), "worker"), "" if seen.workers else "bold red"),
        f"  {running} running  {waiting} waiting  ",
        (f"{seen.dead_count} dead", dead_style),
        no_wrap=True,
        overflow="ellipsis",
    )


def _hints(seen: Overview) -> Iterator[Text]:
    """What an operator would want to be told in words."""
    if not seen.is_used:
        yield Text("Nobody has used this tenant yet: start `microturn talk` or `microturn worker`.", "yellow")
    elif not seen.workers and any(lane.waiting or lane.running for lane in seen.lanes):
        yield Text("Tasks wait and nobody works on them: start `microturn worker`.", "bold red")
    elif not seen.workers and not any(each.is_alive for each in seen.runtimes):
        yield Text("Nothing runs.", "yellow")


def _lanes(lanes: Sequence[LaneLoad]) -> _Listing:
    listing = _Listing(("lane", "waiting", "running", "lag", "oldest waiting", "oldest running"))
    for name in LANES:
        of_lane = [lane for lane in lanes if lane.lane == name]
        lags = [lane.lag for lane in of_lane if lane.lag is not None]
        oldest = max((lane.oldest_waiting_s or 0.0 for lane in of_lane), default=0.0)
        waits = sum(lane.waiting for lane in of_lane)
        listing.add(
            name,
            str(waits),
            str(sum(lane.running for lane in of_lane)),
            str(sum(lags)) if lags else "-",
            Text(age(oldest) if waits else "-", "red" if oldest > LONG_WAIT_S else ""),
            _oldest(lane.oldest_running_s for lane in of_lane),
        )
    return listing


def _oldest(ages: Iterator[float | None]) -> str:
    known = [each for each in ages if each is not None]
    return age(max(known)) if known else "-"


def _runtimes(seen: Overview) -> _Listing:
    listing = _Listing(("runtime", "on", "sessions", "tick p50", "p99", "missed", "told"))
    for each in seen.runtimes:
        status = each.status
        listing.add(
            _id(each.runtime_id),
            f"{status.host[:14]}:{status.pid}" if status else "-",
            str(status.session_count) if status else "-",
            _ms(status.tick_p50_ms if status else None),
            _ms(status.tick_p99_ms if status else None),
            Text(str(status.missed), "red" if status.missed else "") if status else "-",
            _told(each),
        )
    return listing


def _told(each: PostedStatus) -> Text:
    if not each.is_alive:
        return Text(f"died {age(each.age_s or 0.0)} ago", "red")
    if each.age_s is None:
        return Text("nothing")
    return Text(f"{age(each.age_s)} ago", "red" if each.age_s > STALE_AFTER_S else "")


def _sessions(seen: Overview) -> _Listing:
    listing = _Listing(("session", "runtime", "floor", "age", "tasks", "open tasks"))
    for runtime in seen.runtimes:
        for session in runtime.status.sessions if runtime.status is not None else ():
            listing.add(session.session_id[:22], _id(runtime.runtime_id), *_session(session, runtime))
    return listing


def _session(session: SessionStatus, runtime: PostedStatus) -> Iterator[RenderableType]:
    floor = session.floor.value if runtime.is_alive else "cut off"
    yield Text(floor, _FLOOR_STYLE.get(floor, "red"))
    yield age(session.age_s)
    yield str(session.open_tasks)
    yield " ".join(task_id[:6] for task_id in session.task_ids)


def _workers(seen: Overview) -> _Listing:
    listing = _Listing(("worker", "running", "seen"))
    for worker in seen.workers:
        listing.add(worker.worker_id[:28], str(worker.running), f"{age(worker.seen_s)} ago")
    return listing


def _dead(seen: Overview) -> _Listing:
    listing = _Listing(("dead", "reason", "given up"))
    for letter in seen.dead:
        ago_s = (seen.now_ms - letter.at_ms) / 1000
        listing.add(_id(letter.task_id) or "(event)", letter.reason, f"{age(ago_s)} ago")
    return listing


def _id(name: str) -> str:
    return name[:SHOWN_ID]


def _ms(value: float | None) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:.0f} ms", "red" if value > LATE_TICK_MS else "")


def age(seconds: float) -> str:
    """A span in the unit in which it is read at a glance."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
