"""The command that makes scenes: `python -m microturn.interaction_model.training scenes OUT --hours H`.

Scenes go to `OUT/train` or `OUT/test`, where the trainer looks for them. A making that was killed goes on where it was,
and one that asks for more hours adds to what is there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from microturn.interaction_model.training.feature_shards import missing_shards, write_features
from microturn.interaction_model.training.real_speech import VARIABLE, speech_data
from microturn.interaction_model.training.scene import Split
from microturn.interaction_model.training.scene_maker import SceneMaker
from microturn.interaction_model.training.scene_plan import SHARD_MINUTES, ScenePlan
from microturn.interaction_model.training.scene_shards import StoredScene
from microturn.interaction_model.training.scene_statistics import bytes_in, count_scenes, table
from microturn.interaction_model.training.speakers import Engine

PLAN = ScenePlan(mouth=Path())


def scenes(
    out: Annotated[Path, typer.Argument(help="Folder of the scenes; one that was begun is gone on with.")],
    hours: Annotated[float, typer.Option(min=0, help="Length of all scenes, in whole shards of 20 minutes.")],
    mouth: Annotated[Path, typer.Option(help="File of the mouth whose lengths of words scenes keep.")],
    seed: Annotated[int, typer.Option(min=0, help="Scenes of one seed are equal.")] = PLAN.seed,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    split: Annotated[Split, typer.Option(help="Contents, speakers and looks are never in both.")] = "train",
    engine: Annotated[list[Engine] | None, typer.Option(help="Once for each; hibari if none.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="TASK=WEIGHT; may be repeated.")] = None,
    bank: Annotated[Path | None, typer.Option(help="Clips for a task of hearing alone.")] = None,
    transcripts: Annotated[
        Path | None, typer.Option(help="File of `transcribe`, for a task of people who read aloud.")
    ] = None,
    people_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of scenes of digits that people say.")
    ] = PLAN.people_share,
    talk_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of scenes with others who are people.")
    ] = PLAN.talk_share,
    written_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of typed requests; each task's own if none.")
    ] = None,
    mouth_frames: Annotated[bool, typer.Option(help="Give the mouth frames to learn from.")] = True,
) -> None:
    """Make scenes to train on. Recordings of people are used if MICROTURN_SPEECH_DATA names their folder."""
    plan = ScenePlan(
        mouth=mouth,
        split=split,
        seed=seed,
        engines=tuple(engine or PLAN.engines),
        weights=tuple(map(task_weight, weight or [])),
        bank=bank,
        transcripts=transcripts,
        people=speech_data() if VARIABLE in os.environ else None,
        people_share=people_share,
        talk_share=talk_share,
        written_share=written_share,
        has_frames=mouth_frames,
    )
    make_scenes(plan, out / split, shards=math.ceil(hours * 60 / SHARD_MINUTES), jobs=jobs)
    report(out / split)


def make_scenes(plan: ScenePlan, folder: Path, *, shards: int, jobs: int = 1) -> None:
    """Make the shards that are not there yet, with a progress bar; blocks, in `jobs` processes.

    Raises:
        BankMismatchError: the folder holds scenes of another plan.
        MicroturnError: something that the plan names is missing or broken.
    """
    if missing_shards(folder, shards):
        # What is missing is told by this process, before others are started.
        _maker(plan)
    done = write_features(folder, plan.as_written, shards, partial(_scenes, plan), jobs=jobs)
    for _ in track(done, description=f"shards of {SHARD_MINUTES} min", total=shards):
        pass


def report(folder: Path) -> None:
    """Print what a folder holds: a table of tasks, hours, and bytes.

    Raises:
        BadShardError: a shard is broken.
    """
    counts = count_scenes(folder)
    Console().print(table(counts))
    size = bytes_in(folder)
    total = sum(count.hours for count in counts.values())
    rate = f", {size / total / 1e6:.0f} MB an hour" if total else ""
    typer.echo(f"{total:.2f} hours, {size / 1e6:.1f} MB{rate}")


def task_weight(text: str) -> tuple[str, float]:
    """Read TASK=WEIGHT.

    Raises:
        typer.BadParameter: it is nothing of the kind.
    """
    task, _, times = text.partition("=")
    try:
        return task, float(times)
    except ValueError:
        raise typer.BadParameter(f"expected TASK=WEIGHT, got {text!r}") from None


@cache
def _maker(plan: ScenePlan) -> SceneMaker:
    """Load once in each process; one thread, as several processes share the machine."""
    torch.set_num_threads(1)
    return SceneMaker(plan)


def _scenes(plan: ScenePlan, number: int) -> Iterable[StoredScene]:
    return _maker(plan).shard(number)
