"""The command that examines a trained network: `python -m microturn.interaction_model.training exam NETWORK`.

Scenes of the test split are drawn and rendered, lived through by the network as it is served, and by baselines beside
it, and scored by their truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_figures import PEOPLE, READINGS
from microturn.interaction_model.training.exam_scenes import ExamPlan, recordings
from microturn.interaction_model.training.exam_sitting import Baseline, Entry, hold_exam
from microturn.interaction_model.training.mixing import TASKS
from microturn.interaction_model.training.real_speech import VARIABLE, speech_data
from microturn.interaction_model.training.speakers import Engine

PLAN = ExamPlan(mouth=Path())
ENTRY = Entry(network=Path())


class Part(StrEnum):
    """Of what kind the scenes are."""

    TEST = "test"
    TRAIN = "train"


def exam(
    network: Annotated[Path, typer.Argument(help="File of the network.")],
    mouth: Annotated[Path, typer.Option(help="File of the mouth whose lengths of words are kept.")],
    scenes: Annotated[int, typer.Option(min=1, help="Of each task.")] = PLAN.scenes,
    task: Annotated[list[str] | None, typer.Option(help="Once for each; all if none.")] = None,
    engine: Annotated[list[Engine] | None, typer.Option(help="Once for each; flite if none.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Scenes of one seed are equal.")] = PLAN.seed,
    split: Annotated[Part, typer.Option(help="`train` to choose settings with, on new scenes.")] = Part.TEST,
    readings: Annotated[
        Path | None, typer.Option(help="Transcripts of `transcribe --split test`, to read to it.")
    ] = None,
    baseline: Annotated[list[Baseline] | None, typer.Option(help="Who else; may be repeated.")] = None,
    end_below: Annotated[
        list[float] | None,
        typer.Option(help="The network too as it is if END needs this probability; may be repeated."),
    ] = None,
    cascade_scenes: Annotated[
        int, typer.Option(min=1, help="Of each task, for the cascade.")
    ] = ENTRY.cascade_scenes,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures, line by line.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for them as tables in Markdown.")] = None,
) -> None:
    """Examine a network on held-out scenes. Digits of people are among them if MICROTURN_SPEECH_DATA is set."""
    torch.set_num_threads(threads)
    console = Console()
    plan = ExamPlan(
        mouth=mouth,
        tasks=synthetic_tasks(task),
        scenes=scenes,
        engines=tuple(engine or PLAN.engines),
        seed=seed,
        split="train" if split is Part.TRAIN else "test",
        people=_people(task, console) if split is Part.TEST else None,
        readings=_readings(task, readings),
    )
    entry = Entry(network, tuple(baseline or ()), tuple(end_below or ()), cascade_scenes)
    report = hold_exam(entry, plan)
    report.show(console)
    report.write(out, markdown)


def synthetic_tasks(named: Sequence[str] | None) -> tuple[str, ...]:
    """Return those of the named tasks, all if there are none, whose voices are synthetic; each once.

    Raises:
        BadTrainConfigError: there is no task of a name.
    """
    unknown = sorted(set(named or ()) - {*TASKS, PEOPLE, READINGS})
    if unknown:
        expected = f"of {', '.join(sorted((*TASKS, PEOPLE, READINGS)))}"
        raise BadTrainConfigError("a task", expected=expected, got=unknown[0])
    return tuple(task for task in dict.fromkeys(named or TASKS) if task in TASKS)


def _people(tasks: Sequence[str] | None, console: Console) -> Path | None:
    """Return the folder with recordings of people, if their digits are asked for and it is there."""
    if tasks and PEOPLE not in tasks:
        return None
    if tasks:
        return speech_data()
    if (found := recordings()) is None:
        console.print(f"Digits of people are left out: {VARIABLE} names no folder with recordings.")
    return found


def _readings(tasks: Sequence[str] | None, transcripts: Path | None) -> Path | None:
    """Return the transcripts, if what people read is asked for."""
    if tasks and READINGS not in tasks:
        return None
    if tasks and transcripts is None:
        raise BadTrainConfigError("--readings", expected=f"given for the task {READINGS!r}", got=None)
    return transcripts
