"""Every example runs: with a script in place of ears and voice, and with all the rest as it is."""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from microturn.protocols import Delegate
from microturn.runtime import interaction_models
from microturn.runtime.testing import Answer, ScriptedModel, UserLine
from microturn.weights import cache_directory

pytestmark = pytest.mark.redis

EXAMPLES = Path(__file__).parents[1] / "examples"
QUESTION = EXAMPLES / "conversation/question.flac"
TESTED = {"ask_first.py", "invariant_transformer.py", "observe.py", "seats.py", "typed.py"}


def ask(text: str) -> Answer:
    """Delegate what ends in a question mark; say something to all else."""
    return Answer("One moment.", (Delegate(text, 0, 200),)) if text.endswith("?") else Answer("I see.")


RunExample = Callable[..., str]


@pytest.fixture
def run_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunExample:
    """Runs an example as a program in a home of its own; `said` is what its ears would understand."""
    monkeypatch.setenv("MICROTURN_CACHE", str(cache_directory().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("STATE", "DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("MICROTURN_MODEL_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MICROTURN_MODEL", "none")
    monkeypatch.setattr(interaction_models, "require_speech_weights", lambda: None)

    def run(name: str, *arguments: object, said: str = "", typed: str = "") -> str:
        lines = [UserLine(200, 1200, said)] if said else []
        monkeypatch.setattr(interaction_models, "load_cascade", lambda: ScriptedModel(lines, ask))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_seats_answers_with_its_own_tool_and_records_it(run_example: RunExample, tmp_path: Path) -> None:
    answer = tmp_path / "answer.wav"
    out = run_example("seats.py", QUESTION, answer, said="how many seats are left in the library?")
    assert "'delegations': {'final': 1}" in out
    assert "'heard': 1" in out
    assert abs(soundfile.read(answer)[0][:, 1]).max() > 0.2


def test_typed_answers_what_a_tool_knows_and_says_what_it_does_not(run_example: RunExample) -> None:
    out = run_example("typed.py", typed="What is 12 percent of 250?\nWhy is the sky blue?\nthanks\n")
    assert "12 percent of 250 is 30." in out
    assert "That is beyond me." in out
    assert out.index("beyond me") < out.index("I see.")


@pytest.mark.model
@pytest.mark.timeout(60)
def test_ask_first_opens_a_door_only_after_a_yes(tmp_path: Path) -> None:
    """With the real interaction model, which has to take what is typed for an answer."""
    places = {
        f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("STATE", "DATA", "CACHE", "CONFIG")
    }
    environment = {
        **os.environ,
        **places,
        "HOME": str(tmp_path),
        "MICROTURN_CACHE": str(cache_directory().parent),
    }
    lines = ["open the garage door", "yes please", "open the cellar door", "no thanks"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ask_first.py"],
        input="\n".join(lines),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=55,
    )
    said = [line.partition(" s  ")[2] for line in done.stdout.splitlines()]
    assert said.index("Shall I open the garage door?") < said.index("The garage door is open.")
    assert said.index("Shall I open the cellar door?") < said.index("All right, I haven't done it.")
    assert "The cellar door is open." not in said


def test_observe_counts_what_was_heard(run_example: RunExample) -> None:
    out = run_example("observe.py", QUESTION, said="What is 2 plus 2?")
    assert "took" in out
    assert "heard 5/5 words" in out
    assert "7 words of the assistant were heard" in out


def test_every_example_is_tested_and_short() -> None:
    programs = list(EXAMPLES.glob("*.py"))
    assert {program.name for program in programs} == TESTED
    for program in programs:
        assert len(program.read_text("utf-8").splitlines()) < 60
