"""Times of calls that take turns, what they come down to, and tables of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from rich.console import Console
from rich.table import Table

from microturn.kernels.tune.timing import quantile

T = TypeVar("T")
Cell: TypeAlias = float | int | str
Rows: TypeAlias = dict[str, dict[str, Cell]]


@dataclass(frozen=True)
class Spans:
    """How long single calls took, in milliseconds."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Of all threads of the process; neighbours on a shared machine lengthen it less."""

    def time(self, call: Callable[[], T]) -> T:
        """Call, keep how long it took, and return what it gave."""
        cpu_ns, wall_ns = time.process_time_ns(), time.perf_counter_ns()
        given = call()
        self.wall_ms.append((time.perf_counter_ns() - wall_ns) / 1e6)
        self.cpu_ms.append((time.process_time_ns() - cpu_ns) / 1e6)
        return given

    def row(self) -> dict[str, Cell]:
        """Percentiles of the wall time, and the median of processor time."""
        return {
            "p50_ms": round(quantile(self.wall_ms, 0.5), 2),
            "p99_ms": round(quantile(self.wall_ms, 0.99), 2),
            "cpu_p50_ms": round(quantile(self.cpu_ms, 0.5), 2),
            "n": len(self.wall_ms),
        }


@dataclass(frozen=True)
class Variant:
    """One way to do something that is done over and over."""

    call: Callable[[], object]
    undo: Callable[[], object] = lambda: None
    """Called behind every call, outside of its time."""


def taking_turns(variants: Mapping[str, Variant], *, rounds: int, budget_s: float) -> dict[str, Spans]:
    """Time variants one after the other, round after round, so that a disturbance meets all of them.

    Args:
        variants: by name.
        rounds: most of them, at least 1; one before them warms up.
        budget_s: after which no further round begins; five are done in any case.
    """
    found = {name: Spans() for name in variants}
    for variant in variants.values():
        variant.call()
        variant.undo()
    end_s = time.monotonic() + budget_s
    for number in range(rounds):
        if number >= 5 and time.monotonic() > end_s:
            break
        for name, variant in variants.items():
            found[name].time(variant.call)
            variant.undo()
    return found


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the straight line through points, by least squares.

    Raises:
        ValueError: there are fewer than two places.
    """
    if len(set(places)) < 2:
        raise ValueError(f"places must be two or more different ones, got {list(places)!r}")
    middle, level = sum(places) / len(places), sum(values) / len(values)
    products = sum((at - middle) * (value - level) for at, value in zip(places, values, strict=True))
    return products / sum((at - middle) ** 2 for at in places)


def print_table(console: Console, title: str, rows: Rows) -> None:
    """Rows under their name, with every column that one of them has."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table("", *columns, title=title, title_justify="left")
    for name, row in rows.items():
        table.add_row(name, *(_shown(row.get(column, "")) for column in columns))
    console.print(table)


def _shown(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
