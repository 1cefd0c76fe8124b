"""What the native model was to reach on two cores, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from native_figures import Rows
from native_turns import BEHIND, SEEING

BEAT_MS = 200
STRAIGHT = 1.1
"""How much steeper than the whole line its later part may be and still be called straight; our choice."""
FLAT_SHARE = 0.01
"""Of the memory at the beginning, by which it may differ at the end and still be called flat; our choice."""


def goals(figures: Mapping[str, Rows]) -> Rows:
    """One row for each goal whose part was measured."""
    found: Rows = {}
    for part, judge in _JUDGES.items():
        if part in figures:
            found |= judge(figures[part])
    return found


def _turns(rows: Rows) -> Rows:
    row = rows[f"{SEEING}, {BEHIND}"]
    return {
        f"{SEEING}, {BEHIND}, p50 ms": _at_most(60, float(row["p50_ms"])),
        f"{SEEING}, {BEHIND}, p99 ms": _at_most(120, float(row["p99_ms"])),
    }


def _company(rows: Rows) -> Rows:
    """Sessions that talk and see, of which nearly every step is done within the beat."""
    count = 0
    while (row := rows.get(f"{count + 1} x {SEEING}")) and float(row["p99_ms"]) <= BEAT_MS:
        count += 1
    return {f"sessions {SEEING}, p99 within the beat": _row(">= 3", count, count >= 3)}


def _alone(rows: Rows) -> Rows:
    heard, seen = (
        float(next(row for name, row in rows.items() if name.startswith(start))["p50_ms"])
        for start in ("dMel", "hMLP, a pair of 320")
    )
    return {
        "dMel of a micro-turn, p50 ms": _at_most(1, heard),
        "hMLP of a frame of 320 x 240, p50 ms": _at_most(5, seen / 2),
    }


def _context(rows: Rows) -> Rows:
    each, longest = rows["per 1,000 tokens"], rows["the same, the longest three"]
    beside = float(each["step_ms"]) / float(each["attention_ms"])
    later = float(longest["step_ms"]) / float(each["step_ms"])
    return {
        "growth of a micro-turn with context, of that of PyTorch's attention alone": _at_most(1, beside),
        "growth at the longest contexts, of that over all": _at_most(STRAIGHT, later),
    }


def _determinism(rows: Rows) -> Rows:
    return {
        f"determinism, {name}: times as long": _at_most(1.3, float(row["ratio"]))
        for name, row in rows.items()
        if "float32, 1 thread" in name
    }


def _process(rows: Rows) -> Rows:
    later = rows["later"]
    first, last = float(later["first_mb"]), float(later["last_mb"])
    name = f"memory over {later['minutes']} simulated minutes, MB more"
    return {
        name: _row(f"within {FLAT_SHARE:.0%}", round(last - first, 1), abs(last / first - 1) <= FLAT_SHARE)
    }


_JUDGES = {
    "turns": _turns,
    "company": _company,
    "alone": _alone,
    "context": _context,
    "determinism": _determinism,
    "process": _process,
}


def _at_most(limit: float, value: float) -> dict[str, float | int | str]:
    return _row(f"<= {limit:g}", round(value, 2), value <= limit)


def _row(goal: str, value: float, is_met: bool) -> dict[str, float | int | str]:
    return {"goal": goal, "measured": value, "": "met" if is_met else "missed"}
