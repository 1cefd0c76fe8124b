"""The compile gate, in processes of its own: a process compiles kernels or interprets them, never both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.unit,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is made for Linux alone"),
]

IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
BROKEN = Path(__file__).with_name("broken_kernels_program.py")
GATE = ("-m", "microturn.kernels.tune.compile_gate")


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *words],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Any]:
    """What the gate says of each broken kernel."""
    run = _run(str(BROKEN))
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("sound", []),
        ("integer atomic", []),
        ("float atomic", ["adds floats in no fixed order"]),
        ("spilling", ["spills"]),
        ("narrow", ["loads less than 16 bytes at a time"]),
        ("over its cap", ["registers"]),
        ("no power of two", ["does not compile"]),
        ("too large", ["shared memory"]),
        ("other instruction", ["warpgroup multiply"]),
    ],
)
def test_a_kernel_is_refused_for_its_fault_and_for_nothing_else(
    verdicts: dict[str, Any], name: str, reasons: list[str]
) -> None:
    assert [breach.split(":")[0] for breach in verdicts["breaches"][name]] == reasons


def test_the_short_form_takes_the_first_case_of_each_kernel(verdicts: dict[str, Any]) -> None:
    expected = ["sound", "integer atomic", "float atomic", "spilling", "too large"]
    assert verdicts["picked"] == expected


@pytest.mark.timeout(1800 if IS_LONG else 240)
def test_every_kernel_passes_the_gate(tmp_path: Path) -> None:
    report = tmp_path / "gate.json"
    run = _run(*GATE, "--json", str(report), *(() if IS_LONG else ("--arch", "90", "--short")))
    summary = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 0, summary["breaches"]
    assert summary["checked"] == len(json.loads(report.read_text())) >= 20


@pytest.mark.timeout(120)
def test_nothing_is_checked_under_the_interpreter_or_without_a_case() -> None:
    assert _run(*GATE, TRITON_INTERPRET="1").returncode == 2
    assert _run(*GATE, "--only", "no such kernel").returncode == 2
