"""What an exam comes to, as tables for a terminal and as lines of JSON for a model's card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from microturn.interaction_model.training.exam_figures import GOALS, OTHERS, Figure, figures_in
from microturn.interaction_model.training.exam_sheet import Sheet
from microturn.interaction_model.training.marks import DRAWS

NOT_POSSIBLE = "not possible"
FORMAT = 1
"""Of the lines; raised when what is read from them means something else."""
_TITLE_WIDTH = 30


def tables(sheets: Sequence[Sheet]) -> Iterator[Table]:
    """Yield a table of goals, one of the other figures, and one for each task; a column for each examinee.

    A cell has the value, its 95 % interval in brackets, and the number of marks.
    """
    figures = figures_in(chain.from_iterable(sheet.marked() for sheet in sheets))
    yield _table("goals", sheets, [figure for figure in figures if figure in GOALS], has_goals=True)
    yield _table("other figures", sheets, [figure for figure in figures if figure not in GOALS])
    for task, own in _by_task(sheets).items():
        yield _table(task, sheets, own, task)


def lines(sheets: Sequence[Sheet], about: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line that tells what was examined, and one for each figure of each examinee, over all and by task."""
    measure = {"interval": 0.95, "interval_draws": DRAWS, "interval_over": "scenes"}
    yield json.dumps({"exam": {"format": FORMAT, **measure, **about}}, sort_keys=True)
    figures = figures_in(chain.from_iterable(sheet.marked() for sheet in sheets))
    by_task = ((figure, task) for task, own in _by_task(sheets).items() for figure in own)
    for figure, task in chain(((figure, None) for figure in figures), by_task):
        for sheet in sheets:
            if (line := _line(sheet, sheets, figure, task)) is not None:
                yield json.dumps(line)


def _table(
    title: str,
    sheets: Sequence[Sheet],
    figures: Sequence[Figure],
    task: str | None = None,
    *,
    has_goals: bool = False,
) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("figure", min_width=_TITLE_WIDTH)
    if has_goals:
        table.add_column("goal", no_wrap=True)
    for sheet in sheets:
        table.add_column(sheet.name)
    for figure in figures:
        if not any(sheet.figure(figure, task) for sheet in sheets):
            continue
        cells = [_cell(sheet, sheets, figure, task) for sheet in sheets]
        table.add_row(figure.title, *([_goal(figure)] if has_goals else []), *cells)
    return table


def _by_task(sheets: Sequence[Sheet]) -> dict[str, list[Figure]]:
    tasks = dict.fromkeys(chain.from_iterable(sheet.tasks for sheet in sheets))
    return {task: _figures_of(task, sheets) for task in tasks}


def _figures_of(task: str, sheets: Sequence[Sheet]) -> list[Figure]:
    """Those with marks in a task; of two that are taken from the same marks the one that names the task, if one does."""
    figures = figures_in(chain.from_iterable(sheet.marked(task) for sheet in sheets))
    named = {figure.key for figure in figures if task in figure.tasks}
    return [
        figure
        for figure in figures
        if task in figure.tasks or (figure.key not in named and _is_of_all_tasks(figure))
    ]


def _is_of_all_tasks(figure: Figure) -> bool:
    """Whether its title says nothing about tasks or voices."""
    titles = [each for each in (*GOALS, *OTHERS) if each.key == figure.key]
    return len(titles) == 1 or (figure in titles and not figure.tasks)


def _cell(sheet: Sheet, sheets: Sequence[Sheet], figure: Figure, task: str | None) -> str:
    found = sheet.figure(figure, task)
    if found is None:
        return NOT_POSSIBLE if _is_impossible(sheet, sheets, figure, task) else "-"
    low, high = (figure.shown(edge).split(" ")[0].removesuffix("/min") for edge in (found.low, found.high))
    text = f"{figure.shown(found.value)} [dim]({low}..{high}) {found.marks}[/dim]"
    is_met = figure.is_met(found) if task is None else None
    return text if is_met is None else f"[{'green' if is_met else 'red'}]{text}[/]"


def _is_impossible(sheet: Sheet, sheets: Sequence[Sheet], figure: Figure, task: str | None) -> bool:
    """Whether an examinee cannot do this by how it is made, or none of the tasks in which others have marks of it."""
    if figure.key in sheet.impossible:
        return True
    tasks = {each for other in sheets for each in other.tasks if figure.key in other.marked(each)}
    asked = tasks if task is None else {task}
    return bool(asked) and asked <= sheet.impossible


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"{'<=' if figure.at_least is None else '>='} {figure.shown(figure.goal)}"


def _line(sheet: Sheet, sheets: Sequence[Sheet], figure: Figure, task: str | None) -> dict[str, Any] | None:
    found = sheet.figure(figure, task)
    named = {
        "examinee": sheet.name,
        "figure": figure.key,
        "title": figure.title,
        "statistic": figure.statistic.name.lower(),
        "unit": figure.unit,
        "scope": "exam" if task is None else "task",
        "tasks": [task] if task else list(figure.tasks),
    }
    if found is None:
        return {**named, "value": None} if _is_impossible(sheet, sheets, figure, task) else None
    measured = {
        "value": round(found.value, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "marks": found.marks,
        "scenes": found.scenes,
    }
    if task is not None or figure.goal is None:
        return {**named, **measured}
    bound = "at_most" if figure.at_least is None else "at_least"
    return {**named, **measured, bound: figure.goal, "is_met": figure.is_met(found)}
