from __future__ import annotations

import math
from pathlib import Path

import pytest

from microturn.interaction_model.training.curves import CurveLog, curve, read_curves, tasks_of
from microturn.interaction_model.training.learner import StepResult
from microturn.interaction_model.training.plots import draw_curves
from microturn.interaction_model.training.run_log import LogWindow
from microturn.interaction_model.training.train_state import Totals

pytestmark = pytest.mark.unit

RECORDS = [
    {
        "kind": "train",
        "step": 10,
        "loss": 2.0,
        "mouth": None,
        "rate": 1e-3,
        "kilotokens_per_s": 3.0,
        "audio_h": 0.5,
    },
    {
        "kind": "train",
        "step": 20,
        "loss": 1.5,
        "mouth": 0.7,
        "rate": 2e-3,
        "kilotokens_per_s": 3.1,
        "audio_h": 1.0,
    },
    {"kind": "held_out", "step": 20, "loss": 1.6, "tasks": {"clock": {"words": 0.25, "silence": 0.9}}},
    {"kind": "free_run", "step": 20, "tasks": {"cue": {"said": {"hit_rate": 0.5, "false_per_minute": 3.0}}}},
]


def written(path: Path) -> CurveLog:
    log = CurveLog(path / "curves.jsonl")
    for record in RECORDS:
        log.append(record)
    return log


def test_what_was_logged_is_read(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "none") == []
    assert read_curves(written(tmp_path).path) == RECORDS


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    log = written(tmp_path)
    with log.path.open("a") as file:
        file.write('{"kind": "train", "st')
    assert read_curves(log.path) == RECORDS


def test_numbers_that_are_not_finite_are_nothing(tmp_path: Path) -> None:
    log = CurveLog(tmp_path / "log")
    log.append({"kind": "train", "step": 1, "loss": math.nan, "tasks": {"a": {"words": math.inf}}})
    assert read_curves(log.path) == [
        {"kind": "train", "step": 1, "loss": None, "tasks": {"a": {"words": None}}}
    ]


def test_going_back_drops_what_was_logged_behind_the_step(tmp_path: Path) -> None:
    log = written(tmp_path)
    log.rewind(19)
    assert read_curves(log.path) == RECORDS[:1]
    log.append(RECORDS[1])
    assert read_curves(log.path) == RECORDS[:2]


def test_a_curve_is_one_number_where_it_was_measured() -> None:
    assert curve(RECORDS, "train", "mouth") == ([20], [0.7])
    assert curve(RECORDS, "held_out", "tasks", "clock", "words") == ([20], [0.25])
    assert curve(RECORDS, "held_out", "tasks", "other", "words") == ([], [])
    assert tasks_of(RECORDS) == ["clock", "cue"]


def test_a_line_sums_up_the_steps_that_were_taken() -> None:
    window = LogWindow()
    window.add(StepResult(1.0, 0.5, 2.5, 4.5, 2.0, 1e-3, False, None), 100, 0.5)
    window.add(StepResult(math.nan, None, None, None, math.nan, 2e-3, True, None), 100, 0.5)
    window.add(StepResult(2.0, None, None, None, 4.0, 3e-3, False, 1.5), 100, 1.0)
    record = window.record(30, Totals(audio_s=7200, tokens=300, elapsed_s=2.0, skipped=1))
    wanted = {"loss": 1.5, "mouth": 0.5, "phonemes": 2.5, "sights": 4.5, "norm": 3.0, "rate": 3e-3}
    wanted |= {"busiest": 1.5, "kilotokens_per_s": 0.15}
    assert {key: record[key] for key in wanted} == pytest.approx(wanted)
    assert (record["audio_h"], record["skipped"], record["step"]) == (2.0, 1, 30)


def test_curves_are_drawn_as_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    draw_curves(RECORDS, path)
    drawn = path.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    draw_curves(RECORDS[:1], path)
    assert path.read_bytes() != drawn
