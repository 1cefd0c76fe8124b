"""The tables of a model's card are made from the lines of an exam alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_markdown import markdown

pytestmark = pytest.mark.unit

ABOUT = {
    "format": 1,
    "network_sha256": "ab" * 32,
    "mouth_sha256": "cd" * 32,
    "engines": ["flite", "espeak-ng"],
    "scenes_of_each_task": 8,
    "seed": 3,
    "split": "test",
}


def line(examinee: str, figure: str, value: float | None, **others: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "examinee": examinee,
        "figure": figure,
        "title": f"the {figure}",
        "unit": "%",
        "scope": "exam",
        "tasks": [],
        "value": value,
    }
    return {**known, "low": 0.5, "high": 1.0, "marks": 12, **others}


LINES = (
    line("network", "hits", 0.75, at_least=0.8, is_met=False),
    line("silence", "hits", None, at_least=0.8),
    line("network", "alarms", 0.5, unit="/min", at_most=1.0, is_met=True),
    line("network", "latency", 1.25, unit=" s"),
    line("network", "latency", 9.0, unit=" s", tasks=["story"], title="in stories"),
    line("network", "latency", 7.0, unit=" s", scope="task", tasks=["story"]),
)


def written(*lines: dict[str, Any], about: dict[str, Any] = ABOUT) -> str:
    return markdown(map(json.dumps, ({"exam": about}, *lines)))


def test_goals_have_a_table_and_other_figures_another() -> None:
    text = written(*LINES)
    goals, others = text.split("\n\n")[1:]
    assert goals.splitlines() == [
        "| figure | goal | network | silence |",
        "| --- | --- | --- | --- |",
        "| the hits | >= 80 % | 75 % (50 to 100; 12) | not possible |",
        "| the alarms | <= 1.00/min | **0.50/min** (0.50 to 1.00; 12) | - |",
    ]
    assert others.splitlines() == [
        "| figure | network | silence |",
        "| --- | --- | --- |",
        "| the latency | 1.25 s (0.50 to 1.00; 12) | - |",
        "| in stories | 9.00 s (0.50 to 1.00; 12) | - |",
    ]


def test_what_was_examined_stands_above() -> None:
    text = written(*LINES)
    assert text.startswith("8 scenes of each task, held out, seed 3, spoken by flite, espeak-ng.\n")
    assert "Network `abababababab`, mouth `cdcdcdcdcdcd`" in text
    assert "held out" not in written(*LINES, about={**ABOUT, "split": "train"})


def test_a_table_without_rows_is_left_out() -> None:
    assert written(LINES[3]).count("| figure |") == 1
    assert "goal |" not in written(LINES[3])


@pytest.mark.parametrize("text", ["", "{}", "no lines", '{"exam": {"format": 0}}', '{"exam": []}'])
def test_other_lines_are_refused(text: str) -> None:
    with pytest.raises(BadTrainConfigError, match="exam --json"):
        markdown(text.splitlines())
