"""A bar on the terminal: how far a run is, its loss, the sound it has heard, and how long it will take."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from microturn.interaction_model.training.train_state import Totals

_SMOOTHING = 0.05
"""Share of the newest step in the loss that is shown."""


class RunProgress:
    """Shows a run; a context manager."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TextColumn("{task.fields[hours]:.1f} h heard"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task("train", total=None, step=0, loss=math.nan, hours=0.0)
        self._loss: float | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, totals: Totals, loss: float, *, done: float | None) -> None:
        """Take note of a step; `done` is the share of the run that lies behind, None if it has no end."""
        if math.isfinite(loss):
            self._loss = loss if self._loss is None else self._loss + _SMOOTHING * (loss - self._loss)
        self._bar.update(
            self._task,
            total=None if done is None else 1.0,
            completed=done or 0.0,
            step=step,
            loss=self._loss if self._loss is not None else math.nan,
            hours=totals.audio_s / 3600,
        )
