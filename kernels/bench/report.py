"""Tables of figures for people, and the same as JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from microturn.kernels.bench.figure import Figure
from microturn.kernels.bench.machine import Machine
from microturn.kernels.bench.targets import Target


def figure_table(figures: Sequence[Figure]) -> str:
    """Cases as rows: percentiles, processor time, floor, the ratio to the alternative, the goal."""
    header = (
        "group",
        "case",
        "variant",
        "p20",
        "p50",
        "p80",
        "cpu",
        "floor",
        "of floor",
        "wall ratio",
        "cpu ratio",
        "goal",
    )
    lines = [_line(figure, figures) for figure in figures]
    return (
        table((header, *lines))
        + "\n(times in microseconds; ratios are ours over the best alternative, of the p20 and of processor time)\n"
    )


def target_table(targets: Sequence[Target]) -> str:
    """The GPU goals with the floors of an H100, nothing measured."""
    header = ("group", "case", "floor us", "bound", "goal", "stretch", "measured")
    lines = [
        (
            target.group,
            target.case,
            f"{target.floor.us:.1f}" if target.floor else "",
            target.floor.bound if target.floor else "",
            target.goal,
            target.stretch,
            "not measured",
        )
        for target in targets
    ]
    return table((header, *lines))


def machine_text(machine: Machine) -> str:
    """One paragraph on what was measured on."""
    flags = " ".join(f"{name}={value}" for name, value in machine.flags.items())
    return (
        f"{machine.device}, {machine.units} units, {machine.threads} threads; {machine.system}; "
        f"Python {machine.python}, torch {machine.torch}, Triton {machine.triton}; {flags}\n"
        f"fingerprint {machine.fingerprint}; {machine.date}\n"
    )


def write_json(path: Path, machine: Machine, figures: Sequence[Figure]) -> None:
    """Write the machine and every figure as one JSON document."""
    document = {"machine": machine.as_row(), "figures": [figure.as_row() for figure in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path, machine: Machine, figures: Sequence[Figure]) -> None:
    """Write every figure as a row; machine, versions and fingerprint are repeated in each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    origin = {key: str(value) for key, value in machine.as_row().items()}
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = [{**figure.as_row(), **origin} for figure in figures]
        names = list(rows[0]) if rows else ["group", *origin]
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first row as header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join((padded[0], "  ".join("-" * width for width in widths), *padded[1:])) + "\n"


def ratio(
    figure: Figure, figures: Sequence[Figure], *, of: Literal["p20_us", "cpu_us"] = "p20_us"
) -> float | None:
    """One of our variants over the alternative that is best in the same case; None for alternatives.

    The 20th percentile of wall or of processor time, because on a shared machine the rest measures the neighbours.
    """
    own = _time(figure, of)
    if own is None or not _is_ours(figure):
        return None
    same = [one for one in figures if (one.group, one.case) == (figure.group, figure.case)]
    others = [_time(one, of) for one in same if not _is_ours(one)]
    best = min((time for time in others if time), default=None)
    return own / best if best else None


def _time(figure: Figure, of: Literal["p20_us", "cpu_us"]) -> float | None:
    if figure.timing is None:
        return None
    return figure.timing.p20_us if of == "p20_us" else figure.timing.cpu_us


def _is_ours(figure: Figure) -> bool:
    return figure.variant.startswith("ours")


def _line(figure: Figure, figures: Sequence[Figure]) -> tuple[str, ...]:
    timing, share = figure.timing, figure.of_floor
    beside = [ratio(figure, figures, of="p20_us"), ratio(figure, figures, of="cpu_us")]
    times = (
        tuple(f"{value:.1f}" for value in (timing.p20_us, timing.p50_us, timing.p80_us))
        if timing
        else ("not measured", "", "")
    )
    return (
        figure.group,
        figure.case,
        figure.variant,
        *times,
        f"{timing.cpu_us:.1f}" if timing and timing.cpu_us is not None else "",
        f"{figure.floor.us:.1f}" if figure.floor else "",
        f"{share:.0%}" if share is not None else "",
        *(f"{one:.2f}x" if one is not None else "" for one in beside),
        f"{figure.goal} {figure.note}".strip(),
    )
