"""A goal is called met where the figure meets it, and only there."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip(
    "torch", reason="the figures are those of the native model, which needs the extra [native]"
)

from native_figures import Rows, Spans, Variant, slope, taking_turns
from native_goals import goals

pytestmark = pytest.mark.unit


def verdicts(part: str, rows: Rows) -> list[object]:
    return [row[""] for row in goals({part: rows}).values()]


def company(*p99_ms: float) -> Rows:
    return {f"{n} x talking, seeing 160 x 120": {"p99_ms": value} for n, value in enumerate(p99_ms, 1)}


def test_micro_turns_have_a_goal_for_the_middle_and_one_for_the_end() -> None:
    name = "talking, seeing 160 x 120, 10 min behind it"
    assert verdicts("turns", {name: {"p50_ms": 60.0, "p99_ms": 120.1}}) == ["met", "missed"]


def test_sessions_count_up_to_the_first_that_breaks_the_beat() -> None:
    measured = [
        next(iter(goals({"company": company(*times)}).values()))
        for times in [(50, 99, 200, 201), (50, 210, 90, 90), (50, 60, 70, 80)]
    ]
    assert [(row["measured"], row[""]) for row in measured] == [(3, "met"), (1, "missed"), (4, "met")]


def test_a_frame_is_half_of_a_pair() -> None:
    rows: Rows = {"dMel, 200 ms of sound": {"p50_ms": 1.1}, "hMLP, a pair of 320 x 240": {"p50_ms": 9.9}}
    assert verdicts("alone", rows) == ["missed", "met"]


def test_growth_is_compared_with_that_of_attention_and_with_itself() -> None:
    def context(step_ms: float, later_ms: float) -> Rows:
        return {
            "per 1,000 tokens": {"step_ms": step_ms, "attention_ms": 0.3},
            "the same, the longest three": {"step_ms": later_ms, "attention_ms": 0.3},
        }

    assert verdicts("context", context(0.4, 0.4)) == ["missed", "met"]
    assert verdicts("context", context(0.3, 0.4)) == ["met", "missed"]


def test_memory_that_shrinks_or_grows_is_not_flat() -> None:
    for last, verdict in ((705.0, "met"), (708.0, "missed"), (690.0, "missed")):
        rows: Rows = {"later": {"minutes": 10, "first_mb": 700.0, "last_mb": last}}
        assert verdicts("process", rows) == [verdict]


def test_determinism_has_a_goal_for_each_length_with_one_thread() -> None:
    rows: Rows = {
        "one token, 1 min, float32, 1 thread": {"ratio": 1.31},
        "one token, 1 min, float32, 2 threads": {"ratio": 1.0},
        "prefill, 1 min, float32, 1 thread": {"ratio": 1.3},
    }
    assert verdicts("determinism", rows) == ["missed", "met"]


def test_variants_take_turns_and_are_undone_outside_of_their_time() -> None:
    done: list[str] = []
    variants = {
        name: Variant(partial(done.append, name), partial(done.append, f"undo {name}")) for name in ("a", "b")
    }
    found = taking_turns(variants, rounds=2, budget_s=60.0)
    assert done == ["a", "undo a", "b", "undo b"] * 3
    assert [len(spans.wall_ms) for spans in found.values()] == [2, 2]


def test_five_rounds_are_done_even_without_time() -> None:
    found = taking_turns({"a": Variant(lambda: None)}, rounds=200, budget_s=0.0)
    assert len(found["a"].cpu_ms) == 5


def test_percentiles_are_of_the_wall_time() -> None:
    spans = Spans([float(n) for n in range(101)], [1.0] * 101)
    assert spans.row() == {"p50_ms": 50.0, "p99_ms": 99.0, "cpu_p50_ms": 1.0, "n": 101}


def test_a_slope_is_that_of_the_line_and_needs_two_places() -> None:
    assert slope([1.0, 2.0, 4.0], [5.0, 7.0, 11.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="two or more different"):
        slope([1.0, 1.0], [2.0, 3.0])
