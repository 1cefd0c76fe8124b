"""An exam as it is held: the network and everybody beside it live through the same scenes, and a report is made.

Knows nothing of who calls it, and takes the voices of the scenes as they are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from microturn.interaction_model.cascade.loader import load_cascade
from microturn.interaction_model.native.checkpoint import load
from microturn.interaction_model.native.loader import ready
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.voice_file import load_mouth
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_figures import SEEN_TASKS
from microturn.interaction_model.training.exam_markdown import markdown
from microturn.interaction_model.training.exam_report import lines, tables
from microturn.interaction_model.training.exam_scenes import ExamPlan, ExamScenes, Load, SceneRenderer
from microturn.interaction_model.training.exam_sheet import Sheet
from microturn.interaction_model.training.examinees import (
    Examinee,
    NetworkExaminee,
    OkayExaminee,
    SilentExaminee,
    TargetExaminee,
    without_clock,
)
from microturn.interaction_model.training.reading_exam import ExamReadings
from microturn.interaction_model.training.served_examinee import ServedExaminee
from microturn.interaction_model.training.token_choice import end_below

BATCH = 8
"""Scenes that are rendered and lived through side by side: those with films take some 20 MB each."""


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


@dataclass(frozen=True)
class Entry:
    """Who is examined."""

    network: Path
    """File."""
    baselines: tuple[Baseline, ...] = ()
    end_below: tuple[float, ...] = ()
    """The network once more for each of these limits; see `token_choice.end_below`."""
    cascade_scenes: int = 4
    """Of each task, for the cascade, which is slow."""

    def __post_init__(self) -> None:
        for limit in self.end_below:
            if not 0 < limit <= 1:
                expected = "above 0 and at most 1"
                raise BadTrainConfigError("the limit of END", expected=expected, got=limit)


@dataclass(frozen=True)
class Report:
    """What an exam has come to."""

    about: Mapping[str, Any]
    sheets: Sequence[Sheet]

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """The report in JSON; see `exam_report.lines`."""
        return tuple(lines(self.sheets, self.about))

    def show(self, console: Console) -> None:
        """Print all tables."""
        for table in tables(self.sheets):
            console.print(table)

    def write(self, json: Path | None, markdown_file: Path | None) -> None:
        """Write the lines, and tables for a model's card, where files are named."""
        if json is not None:
            json.write_text("".join(f"{line}\n" for line in self.lines), "utf-8")
        if markdown_file is not None:
            markdown_file.write_text(markdown(self.lines), "utf-8")


def hold_exam(
    entry: Entry, plan: ExamPlan, load_scenes: Load = SceneRenderer, about: Mapping[str, Any] | None = None
) -> Report:
    """Let everybody live through all scenes of a plan, with a progress bar; blocks for minutes.

    Args:
        entry: who is examined.
        plan: on what.
        load_scenes: gives who renders the scenes of a part of the plan.
        about: what the report says beside what entry and plan say, or in place of it.

    Raises:
        MicroturnError: something that entry or plan name is missing or broken.
    """
    readings = ExamReadings(plan.readings) if plan.readings else None
    scenes = ExamScenes(plan, load_scenes, readings)
    sheets = list(_sheets(entry, plan))
    _sit(scenes, plan, sheets)
    told = {"readings_sha256": readings.digest if readings else None, **(about or {})}
    return Report({**_about(entry, plan), **told}, sheets)


def _sit(scenes: ExamScenes, plan: ExamPlan, sheets: Sequence[Sheet]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("scenes", total=sum(map(scenes.count, plan.all_tasks)))
        for task in plan.all_tasks:
            progress.update(bar, description=task)
            for batch in scenes.batches(task, BATCH):
                for sheet in sheets:
                    sheet.take(task, batch)
                progress.advance(bar, len(batch))


def _sheets(entry: Entry, plan: ExamPlan) -> Iterator[Sheet]:
    """A sheet for the network, one for each of its limits, and one for each baseline."""
    network, mouth = load(entry.network).float(), load_mouth(plan.mouth)
    own_words = OwnWords(mouth.durations)
    yield Sheet(NetworkExaminee(network, own_words), plan.scenes)
    for limit in dict.fromkeys(entry.end_below):
        name = f"END below {limit:g}"
        yield Sheet(NetworkExaminee(network, own_words, name, end_below(limit)), plan.scenes)
    for baseline in dict.fromkeys(entry.baselines):
        most = min(plan.scenes, entry.cascade_scenes) if baseline is Baseline.CASCADE else plan.scenes
        yield Sheet(_examinee(baseline, network, mouth), most)


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


def _about(entry: Entry, plan: ExamPlan) -> dict[str, Any]:
    return {
        "network_sha256": hashlib.sha256(entry.network.read_bytes()).hexdigest(),
        "mouth_sha256": hashlib.sha256(plan.mouth.read_bytes()).hexdigest(),
        "engines": [str(engine) for engine in plan.engines],
        "tasks": list(plan.all_tasks),
        "scenes_of_each_task": plan.scenes,
        "seed": plan.seed,
        "split": plan.split,
    }
