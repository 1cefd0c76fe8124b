"""A training run: steps, held-out scenes, the log, and states on disk; it goes on where it stopped.

Time decides only when a run saves, looks at held-out scenes and ends; what a step computes never depends on it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Protocol

import torch

from microturn.interaction_model.native.checkpoint import NETWORK_FILE
from microturn.interaction_model.native.checkpoint import save as save_network
from microturn.interaction_model.native.voice_file import MOUTH_FILE, save_mouth
from microturn.interaction_model.training._errors import (
    BadTrainConfigError,
    DivergedError,
    StateNotWrittenError,
)
from microturn.interaction_model.training.batches import Batch, steps_of
from microturn.interaction_model.training.curves import CurveLog, Record
from microturn.interaction_model.training.learner import StepResult
from microturn.interaction_model.training.prefetch import Prefetcher
from microturn.interaction_model.training.run_log import LogWindow
from microturn.interaction_model.training.run_parts import RunParts
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.train_state import StateFolder, Totals, TrainState

MOST_SKIPPED = 20
"""Steps in a row without finite loss and gradients after which a run gives up."""
PACED_AFTER = 9
"""Steps of a call after which it is known how long one takes."""
CURVES = "curves.jsonl"
BEST = "best"
"""The folder, in that of the run, of the model as it was when it was best on held-out scenes. Both can be served."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """When a run ends."""

    minutes: float | None = None
    """Of this call."""
    steps: int | None = None
    """Steps done in all, those of earlier calls included."""
    fall_share: float = 0.0
    """The last share of minutes or steps, in which the learning rate falls to nothing; 0 to go on later as it is."""


class Progress(Protocol):
    """Shows how far a run is."""

    def show(self, step: int, totals: Totals, loss: float, *, done: float | None) -> None:
        """Take note of a step; `done` is the share of the run that lies behind, None if it has no end."""


class Trainer:
    """One run; its parts were put together by `run_parts`.

    Args:
        parts: what is trained, on what.
        out: its folder: states, log and weights.
        now: monotonic seconds.
    """

    def __init__(self, parts: RunParts, out: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._config = parts.config
        self._out = out
        self._now = now
        self.states = StateFolder(out)
        self._log = CurveLog(out / CURVES)
        self._window = LogWindow()
        self._schedule = Schedule(parts.config.optimizer.warm_up_steps)
        self._best: float | None = None
        self.totals = Totals()
        self.step = 0
        self._saved_at = self._looked_at = self._began_at = self._now()
        self._step_ends: list[float] = []

    def resume(self) -> None:
        """Go on from the newest state that is whole.

        Raises:
            NoStateError: there is none.
            BadTrainConfigError: it is of another preset or seed.
        """
        state = self.states.load_newest()
        for field in ("preset", "seed"):
            if getattr(state, field) != getattr(self._config, field):
                expected = f"{getattr(state, field)!r}, as in the run that goes on"
                raise BadTrainConfigError(field, expected=expected, got=getattr(self._config, field))
        if state.data != self._parts.data:
            logger.warning(
                "the data have changed since the state was saved: their order is another one from here on"
            )
        self._parts.learner.trainee.load_state_dict(state.model)
        self._parts.learner.optimizer.load_state_dict(state.optimizer)
        torch.set_rng_state(state.random)
        self.step, self.totals, self._best = state.step, state.totals, state.best_loss
        self._schedule = state.schedule.taken_up(state.step)
        self._log.rewind(state.step)

    def run(self, limit: Limit, progress: Progress, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Train until the limit, or until `is_stopped` after a step; then save, and write the weights.

        Raises:
            DivergedError: nothing was finite for `MOST_SKIPPED` steps.
            StateNotWrittenError: the last state could not be saved. Earlier ones are tried again later.
            BadShardError: a scene cannot be read.
        """
        self._saved_at = self._looked_at = self._began_at = self._now()
        self._step_ends = []
        rows = self._config.rows
        steps = steps_of(self._parts.plan, self._parts.collate, rows.rows, rows.accumulate, self.step)
        with Prefetcher(steps) as ready:
            while not is_stopped() and self._goes_on(limit):
                result = self._take_step(next(ready))
                progress.show(self.step, self.totals, result.loss, done=self._done(limit))
                self._tend()
        self.save()
        self._write_model(self._out)
        if not is_stopped():  # who stops a run does not wait for figures
            self._look()

    def save(self, *, is_best: bool = False) -> None:
        """Save the state.

        Raises:
            StateNotWrittenError: the disk does not take it.
        """
        learner = self._parts.learner
        state = TrainState(
            step=self.step,
            preset=self._config.preset,
            seed=self._config.seed,
            data=self._parts.data,
            model=learner.trainee.state_dict(),
            optimizer=learner.optimizer.state_dict(),
            schedule=self._schedule,
            totals=self.totals,
            best_loss=self._best,
            random=torch.get_rng_state(),
        )
        self.states.save(state, is_best=is_best)

    def _take_step(self, batches: Sequence[Batch]) -> StepResult:
        begin = self._now()
        result = self._parts.learner.step(batches, self.step, self._schedule)
        self.step += 1
        self.totals.elapsed_s += (passed := self._now() - begin)
        self._step_ends.append(begin + passed)
        self.totals.audio_s += sum(batch.audio_s for batch in batches)
        self.totals.tokens += (tokens := sum(batch.used for batch in batches))
        self._window.add(result, tokens, passed)
        self._count_skipped(result)
        if self.step % self._config.saving.log_steps == 0:
            self._write_down(self._window.record(self.step, self.totals))
            self._window = LogWindow()
        return result

    def _count_skipped(self, result: StepResult) -> None:
        if not result.is_skipped:
            self.totals.skipped_in_a_row = 0
            return
        self.totals.skipped += 1
        self.totals.skipped_in_a_row += 1
        logger.warning("left out step %d: its loss or gradients were not finite", self.step)
        if self.totals.skipped_in_a_row >= MOST_SKIPPED:
            raise DivergedError(MOST_SKIPPED, self.step)

    def _goes_on(self, limit: Limit) -> bool:
        """Whether there is another step; begins the fall of the rate when its time has come."""
        if self._schedule.falls_at is None and limit.fall_share > 0:
            self._begin_fall(limit)
        if (end := self._schedule.ends_at) is not None:
            return self.step < end
        if limit.steps is not None and self.step >= limit.steps:
            return False
        return limit.minutes is None or self._now() - self._began_at < 60 * limit.minutes

    def _begin_fall(self, limit: Limit) -> None:
        if limit.steps is not None:
            fall = max(1, round(limit.fall_share * limit.steps))
            if self.step >= limit.steps - fall:
                self._schedule = self._schedule.falling(self.step, max(0, limit.steps - self.step))
        elif limit.minutes is not None and len(self._step_ends) >= PACED_AFTER:
            left = 60 * limit.minutes - (self._now() - self._began_at)
            if left <= 60 * limit.minutes * limit.fall_share:
                # Not the mean: the first steps compile, and one of them may take as long as fifty others.
                each = median(end - begin for begin, end in pairwise(self._step_ends))
                self._schedule = self._schedule.falling(self.step, max(1, round(left / each)))

    def _done(self, limit: Limit) -> float | None:
        if (end := self._schedule.ends_at) is not None:
            return self.step / end
        if limit.steps is not None:
            return self.step / limit.steps
        return (self._now() - self._began_at) / (60 * limit.minutes) if limit.minutes else None

    def _tend(self) -> None:
        """Look at held-out scenes and save when it is time; a disk that is full now may have room later."""
        saving = self._config.saving
        try:
            if self._now() - self._looked_at >= 60 * saving.evaluate_minutes:
                self._look()
            if self._now() - self._saved_at >= 60 * saving.checkpoint_minutes:
                self._saved_at = self._now()
                self.save()
        except StateNotWrittenError as error:
            logger.warning("%s", error)

    def _look(self) -> None:
        """Measure held-out scenes, log that, and save the state if it is the best so far."""
        evaluator, saving = self._parts.evaluator, self._config.saving
        self._looked_at = self._now()
        if not evaluator.is_empty:
            network = self._parts.learner.trainee.network
            found = evaluator.held_out(network, self._config.rows.rows, saving.held_out_batches)
            self._write_down({"kind": "held_out", "step": self.step, **found})
            if saving.free_run_scenes:
                free = evaluator.free_run(network, saving.free_run_scenes)
                self._write_down({"kind": "free_run", "step": self.step, **free})
            if self._best is None or found["loss"] < self._best:
                self._best = found["loss"]
                self.save(is_best=True)
                self._write_model(self._out / BEST)
        self._looked_at = self._now()

    def _write_model(self, folder: Path) -> None:
        """Write what `load_native` reads."""
        notes = {"step": str(self.step), "preset": self._config.preset}
        save_network(self._parts.learner.trainee.network, folder / NETWORK_FILE, notes=notes)
        if self._parts.mouth is not None:
            save_mouth(self._parts.mouth, folder / MOUTH_FILE)

    def _write_down(self, record: Record) -> None:
        """Log a record; a run does not end because its log cannot be written."""
        try:
            self._log.append(record)
        except OSError as error:
            logger.warning("could not write to the log of the run: %s", error.strerror)
