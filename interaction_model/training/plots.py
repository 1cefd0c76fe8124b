"""Pictures of a run's curves. The one place of the training that loads matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from microturn.interaction_model.training._errors import PlotsMissingError
from microturn.interaction_model.training.curves import Record, curve, tasks_of


class _Panel(NamedTuple):
    title: str
    label: str
    lines: Sequence[tuple[str, str, tuple[str, ...]]]
    """Name, kind of record and path of each."""


def draw_curves(records: Sequence[Record], path: Path) -> None:
    """Draw a log as one PNG: losses, accuracies of each task, free runs, rate, speed and sound.

    Raises:
        PlotsMissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotsMissingError from error
    panels = _panels(records)
    figure = Figure(figsize=(18, 9), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 4).flat, panels, strict=True):
        _draw(axes, panel, records)
    figure.savefig(path, dpi=100)


def _panels(records: Sequence[Record]) -> list[_Panel]:
    tasks = tasks_of(records)
    return [
        _Panel(
            "Loss",
            "nats",
            [
                ("training, weighted", "train", ("loss",)),
                ("held out", "held_out", ("loss",)),
            ],
        ),
        _Panel(
            "Learned beside",
            "nats a phoneme, a pair of frames; squared error",
            [
                ("the user's phonemes", "train", ("phonemes",)),
                ("what is seen", "train", ("sights",)),
                ("flow of the mouth", "train", ("mouth",)),
            ],
        ),
        _Panel("Words right, answers given", "share", _by_task(tasks, "held_out", "words")),
        _Panel("Silence kept, answers given", "share", _by_task(tasks, "held_out", "silence")),
        _Panel("Words said in time, free run", "share", _by_task(tasks, "free_run", "said", "hit_rate")),
        _Panel("False words, free run", "a minute", _by_task(tasks, "free_run", "said", "false_per_minute")),
        _Panel("Learning rate", "", [("", "train", ("rate",))]),
        _Panel(
            "Work",
            "thousand tokens a second; hours",
            [
                ("thousand tokens a second", "train", ("kilotokens_per_s",)),
                ("hours of sound seen", "train", ("audio_h",)),
            ],
        ),
    ]


def _by_task(tasks: Sequence[str], kind: str, *path: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(task, kind, ("tasks", task, *path)) for task in tasks]


def _draw(axes: Any, panel: _Panel, records: Sequence[Record]) -> None:
    drawn = [(name, *curve(records, kind, *path)) for name, kind, path in panel.lines]
    for name, steps, values in drawn:
        if steps:
            axes.plot(steps, values, label=name or None, marker="." if len(steps) < 30 else None)
    axes.set(title=panel.title, xlabel="step", ylabel=panel.label)
    if any(name and steps for name, steps, _ in drawn):
        axes.legend(fontsize="x-small")
