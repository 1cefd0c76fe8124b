"""The command that examines a trained network: `python -m microturn.interaction_model.training exam NETWORK`.

Scenes of the test split are drawn and rendered, lived through by the network as it is served, and by baselines beside
it, and scored by their truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microturn.interaction_model.cascade.loader import load_cascade
from microturn.interaction_model.native.checkpoint import load
from microturn.interaction_model.native.loader import ready
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.voice_file import load_mouth
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_figures import PEOPLE, SEEN_TASKS
from microturn.interaction_model.training.exam_report import lines, tables
from microturn.interaction_model.training.exam_scenes import ExamPlan, ExamScenes, recordings
from microturn.interaction_model.training.exam_sheet import Sheet
from microturn.interaction_model.training.examinees import (
    Examinee,
    NetworkExaminee,
    OkayExaminee,
    SilentExaminee,
    TargetExaminee,
    without_clock,
)
from microturn.interaction_model.training.mixing import TASKS
from microturn.interaction_model.training.own_words import OwnWords
from microturn.interaction_model.training.real_speech import VARIABLE, speech_data
from microturn.interaction_model.training.served_examinee import ServedExaminee
from microturn.interaction_model.training.speakers import Engine

BATCH = 8
"""Scenes that are rendered and lived through side by side: those with films take some 20 MB each."""
PLAN = ExamPlan(mouth=Path())


class Baseline(StrEnum):
    """Who is examined beside the network."""

    SILENCE = "silence"
    """Does nothing: what a figure is worth if nothing is done."""
    OKAY = "okay"
    """Says "okay" at the end of all sound."""
    STOPPED_CLOCK = "stopped-clock"
    """The network without its clock."""
    SERVED = "served"
    """The network behind the interface that sessions use, with its mouth."""
    CASCADE = "cascade"
    """The cascade, which needs the extra `speech` and its weights. It is not shown pictures, hands tasks over in the
    user's own words, and has no background here."""
    TARGETS = "targets"
    """Does what the scenes' targets say: the ceiling."""


def exam(
    network: Annotated[Path, typer.Argument(help="File of the network.")],
    mouth: Annotated[Path, typer.Option(help="File of the mouth whose lengths of words are kept.")],
    scenes: Annotated[int, typer.Option(min=1, help="Of each task.")] = PLAN.scenes,
    task: Annotated[list[str] | None, typer.Option(help="Once for each; all if none.")] = None,
    engine: Annotated[list[Engine] | None, typer.Option(help="Once for each; flite if none.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Scenes of one seed are equal.")] = PLAN.seed,
    baseline: Annotated[list[Baseline] | None, typer.Option(help="Who else; may be repeated.")] = None,
    cascade_scenes: Annotated[int, typer.Option(min=1, help="Of each task, for the cascade.")] = 4,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures, line by line.")] = None,
) -> None:
    """Examine a network on held-out scenes. Digits of people are among them if MICROTURN_SPEECH_DATA is set."""
    torch.set_num_threads(threads)
    console = Console()
    plan = ExamPlan(
        mouth=mouth,
        tasks=_tasks(task),
        scenes=scenes,
        engines=tuple(engine or PLAN.engines),
        seed=seed,
        people=_people(task, console),
    )
    speaks, hears = load_mouth(mouth), load(network)
    names = dict.fromkeys(baseline or ())
    sheets = [Sheet(NetworkExaminee(hears, OwnWords(speaks.durations)), scenes)]
    for name in names:
        most = min(scenes, cascade_scenes) if name is Baseline.CASCADE else scenes
        sheets.append(Sheet(_examinee(name, hears, speaks), most))
    sit(ExamScenes(plan), plan, sheets)
    for table in tables(sheets):
        console.print(table)
    if out is not None:
        out.write_text("".join(f"{line}\n" for line in lines(sheets, _about(plan, network))))


def sit(scenes: ExamScenes, plan: ExamPlan, sheets: Sequence[Sheet]) -> None:
    """Let everybody live through all scenes of a plan, with a progress bar; blocks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("scenes", total=len(plan.all_tasks) * plan.scenes)
        for task in plan.all_tasks:
            progress.update(bar, description=task)
            for batch in scenes.batches(task, BATCH):
                for sheet in sheets:
                    sheet.take(task, batch)
                progress.advance(bar, len(batch))


def _examinee(name: Baseline, network: Network, mouth: Mouth) -> Examinee:
    own_words = OwnWords(mouth.durations)
    makers: Mapping[Baseline, Callable[[], Examinee]] = {
        Baseline.SILENCE: SilentExaminee,
        Baseline.OKAY: lambda: OkayExaminee(own_words),
        Baseline.TARGETS: lambda: TargetExaminee(own_words),
        Baseline.STOPPED_CLOCK: lambda: NetworkExaminee(without_clock(network), own_words, str(name)),
        Baseline.SERVED: lambda: _served(network, mouth),
        Baseline.CASCADE: lambda: ServedExaminee(
            str(name), load_cascade(), weaves=False, impossible=SEEN_TASKS | {"delegated_exactly"}
        ),
    }
    return makers[name]()


def _served(network: Network, mouth: Mouth) -> Examinee:
    model = ready(network, mouth)
    return ServedExaminee(str(Baseline.SERVED), model, weaves=True, together=model.window.sessions)


def _tasks(named: Sequence[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(named or ()) - {*TASKS, PEOPLE})
    if unknown:
        expected = f"of {', '.join(sorted((*TASKS, PEOPLE)))}"
        raise BadTrainConfigError("a task", expected=expected, got=unknown[0])
    return tuple(task for task in dict.fromkeys(named or TASKS) if task != PEOPLE)


def _people(tasks: Sequence[str] | None, console: Console) -> Path | None:
    """Return the folder with recordings of people, if their digits are asked for and it is there."""
    if tasks and PEOPLE not in tasks:
        return None
    if tasks:
        return speech_data()
    if (found := recordings()) is None:
        console.print(f"Digits of people are left out: {VARIABLE} names no folder with recordings.")
    return found


def _about(plan: ExamPlan, network: Path) -> dict[str, Any]:
    return {
        "network_sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
        "mouth_sha256": hashlib.sha256(plan.mouth.read_bytes()).hexdigest(),
        "engines": [str(engine) for engine in plan.engines],
        "scenes_of_each_task": plan.scenes,
        "seed": plan.seed,
        "split": "test",
    }
