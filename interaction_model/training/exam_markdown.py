"""The lines of an exam as tables in Markdown, for the card of a model. Reads nothing but the lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_figures import shown
from microturn.interaction_model.training.exam_report import FORMAT, NOT_POSSIBLE

_Line = Mapping[str, Any]
_DIGITS = 12
"""Of a digest: enough to tell files apart by eye."""


def markdown(lines: Iterable[str]) -> str:
    """Write what was examined, a table of goals, and one of the other figures over all tasks, a column for each examinee.

    A cell has the value, its 95 % interval and the number of marks in brackets. A goal is met where it is in bold type.

    Args:
        lines: as `exam_report.lines` yields them.

    Raises:
        BadTrainConfigError: they are not the lines of an exam, or of one in another format.
    """
    about, found = _read(lines)
    rows = _rows(found)
    names = list(dict.fromkeys(line["examinee"] for line in found))
    goals = [row for row in rows if any(_bound(line) for line in row.values())]
    others = [row for row in rows if row not in goals]
    parts = [_about(about), *(_table(names, some) for some in (goals, others) if some)]
    return "\n".join(parts)


def _read(lines: Iterable[str]) -> tuple[Mapping[str, Any], list[_Line]]:
    """What was examined, and the lines of figures over all tasks."""
    try:
        first, *others = map(json.loads, lines)
        if first["exam"]["format"] != FORMAT:
            raise ValueError("format")
        return first["exam"], [line for line in others if line["scope"] == "exam"]
    except (LookupError, TypeError, ValueError) as error:
        expected = f"lines that `exam --json` has written, in format {FORMAT}"
        raise BadTrainConfigError("figures of an exam", expected=expected, got=str(error)) from error


def _rows(found: Sequence[_Line]) -> list[dict[str, _Line]]:
    """The lines of each figure by examinee, in the order of the report."""
    rows: dict[tuple[str, ...], dict[str, _Line]] = {}
    for line in found:
        rows.setdefault((line["figure"], *line["tasks"]), {})[line["examinee"]] = line
    return list(rows.values())


def _table(names: Sequence[str], rows: Sequence[Mapping[str, _Line]]) -> str:
    has_goals = any(_bound(line) for row in rows for line in row.values())
    heads = ["figure", *(["goal"] if has_goals else []), *names]
    told = [_told(heads), _told(["---"] * len(heads))]
    for row in rows:
        first = next(iter(row.values()))
        goal = next((_bound(line) for line in row.values() if _bound(line)), "")
        cells = [_cell(row[name]) if name in row else "-" for name in names]
        told.append(_told([first["title"], *([goal] if has_goals else []), *cells]))
    return "\n".join((*told, ""))


def _told(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(line: _Line) -> str:
    if line["value"] is None:
        return NOT_POSSIBLE
    value, low, high = (shown(line[name], line["unit"]) for name in ("value", "low", "high"))
    bold = "**" if line.get("is_met") else ""
    edges = f"{low.removesuffix(line['unit']).strip()} to {high.removesuffix(line['unit']).strip()}"
    return f"{bold}{value}{bold} ({edges}; {line['marks']})"


def _bound(line: _Line) -> str:
    for name, sign in (("at_least", ">="), ("at_most", "<=")):
        if name in line:
            return f"{sign} {shown(line[name], line['unit'])}"
    return ""


def _about(about: Mapping[str, Any]) -> str:
    kind = "held out" if about["split"] == "test" else "new ones of the kind that is trained on"
    network, mouth = (about[f"{name}_sha256"][:_DIGITS] for name in ("network", "mouth"))
    return (
        f"{about['scenes_of_each_task']} scenes of each task, {kind}, seed {about['seed']}, "
        f"spoken by {', '.join(about['engines'])}.\n"
        f"Network `{network}`, mouth `{mouth}`.\n"
        "In brackets: 95 % intervals over scenes, and the number of marks. Goals that are met are in bold type.\n"
    )
