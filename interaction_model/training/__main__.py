"""The command line of the trainer: `python -m microturn.interaction_model.training`."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.logging import RichHandler

from microturn.interaction_model.native.checkpoint import load
from microturn.interaction_model.native.voice_file import load_mouth
from microturn.interaction_model.training._errors import NoScenesError, RunExistsError
from microturn.interaction_model.training.curves import read_curves
from microturn.interaction_model.training.exam_command import exam
from microturn.interaction_model.training.plots import draw_curves
from microturn.interaction_model.training.run_parts import put_together
from microturn.interaction_model.training.run_progress import RunProgress
from microturn.interaction_model.training.scene_command import scenes, task_weight
from microturn.interaction_model.training.stop_request import StopRequest
from microturn.interaction_model.training.train_config import (
    OptimizerConfig,
    Precision,
    RowsConfig,
    SavingConfig,
    TrainConfig,
)
from microturn.interaction_model.training.trainer import CURVES, Limit, Trainer
from microturn.interaction_model.training.transcribe_command import transcribe
from microturn.protocols import MicroturnError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(scenes)
app.command()(exam)
app.command()(transcribe)
DEFAULT = TrainConfig()


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="Folder whose folder `train` holds shards of scenes.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    preset: Annotated[str, typer.Option(help="Sizes of the network.")] = DEFAULT.preset,
    minutes: Annotated[float | None, typer.Option(help="Length of this call.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all, those before included.")] = None,
    fall: Annotated[float, typer.Option(help="Last share in which the learning rate falls to 0.")] = 0.0,
    begin: Annotated[
        Path | None, typer.Option(help="Network to begin with, of whatever size; else one is drawn.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest state.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = DEFAULT.seed,
    device: Annotated[str, typer.Option(help="`cpu` or `cuda`.")] = DEFAULT.device,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network: a slow first step, then quicker ones.")
    ] = DEFAULT.is_compiled,
    precision: Annotated[Precision, typer.Option(help="Of matrix products.")] = DEFAULT.precision,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = DEFAULT.threads,
    rows: Annotated[int, typer.Option(help="Rows of a micro-batch.")] = DEFAULT.rows.rows,
    micro_turns: Annotated[int, typer.Option(help="Length of a row.")] = DEFAULT.rows.micro_turns,
    accumulate: Annotated[int, typer.Option(help="Micro-batches of a step.")] = DEFAULT.rows.accumulate,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = DEFAULT.optimizer.learning_rate,
    mouth: Annotated[
        Path | None,
        typer.Option(help="What it will speak with; trained along where scenes hold frames for it."),
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="TASK=TIMES an epoch; may be repeated.")] = None,
    save_minutes: Annotated[float, typer.Option(help="Between states.")] = DEFAULT.saving.checkpoint_minutes,
    look_minutes: Annotated[
        float, typer.Option(help="Between looks at held-out scenes.")
    ] = DEFAULT.saving.evaluate_minutes,
) -> None:
    """Train until the limit or Ctrl-C, and save."""
    config = TrainConfig(
        preset=preset,
        seed=seed,
        precision=precision,
        threads=threads,
        device=device,
        is_compiled=compiled,
        task_weights=dict(map(task_weight, weight or [])),
        rows=RowsConfig(rows=rows, micro_turns=micro_turns, accumulate=accumulate),
        optimizer=OptimizerConfig(learning_rate=rate),
        saving=SavingConfig(checkpoint_minutes=save_minutes, evaluate_minutes=look_minutes),
    )
    torch.set_num_threads(threads)
    network = load(begin).float() if begin else None
    trainer = Trainer(put_together(config, data, network, load_mouth(mouth) if mouth else None), out)
    if resume:
        trainer.resume()
    elif trainer.states.files():
        raise RunExistsError(out)
    (out / "config.json").write_text(json.dumps(asdict(config), indent=1))
    with StopRequest() as stop, RunProgress() as progress:
        trainer.run(Limit(minutes=minutes, steps=steps, fall_share=fall), progress, lambda: stop.is_asked)


@app.command()
def curves(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or a log.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write; beside the log by default.")] = None,
) -> None:
    """Draw the log of a run as a picture."""
    log = run / CURVES if run.is_dir() else run
    records = read_curves(log)
    if not records:
        raise NoScenesError(log, expected="a log with at least one line", got="none")
    picture = out or log.with_suffix(".png")
    draw_curves(records, picture)
    typer.echo(str(picture))


def main() -> None:
    """Run the command line; errors that the user can mend are one sentence, not a traceback."""
    console = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console)])
    try:
        app()
    except MicroturnError as error:
        console.print(f"training: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
