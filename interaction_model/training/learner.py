"""One step of training: gradients of all micro-batches, cut to a norm, and one move of the weights.

Knows nothing of files, clocks or the order of data. A step depends on its batches, its number, the seed and the
weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from microturn.interaction_model.training.batches import Batch
from microturn.interaction_model.training.expert_balance import ExpertBalance
from microturn.interaction_model.training.objective import Objective, Trainee
from microturn.interaction_model.training.optimizer import make_optimizer, set_rate
from microturn.interaction_model.training.schedule import Schedule
from microturn.interaction_model.training.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step found."""

    loss: float
    """Weighted mean of cross-entropies, in nats; not a number if it was not finite."""
    mouth: float | None
    """Mean flow loss; None without speech."""
    phonemes: float | None
    """Mean loss of a phoneme of the user, in nats; None without any."""
    sights: float | None
    """Mean loss of what a pair of frames shows, in nats; None without any."""
    norm: float
    """Of the gradients before they were cut."""
    rate: float
    is_skipped: bool
    """Whether the weights stayed, because loss or gradients were not finite."""
    busiest: float | None
    """Load of the busiest expert over its even share; None without experts."""


class _Means(NamedTuple):
    """Mean losses of one step, as in `StepResult`."""

    tokens: float
    mouth: float | None
    phonemes: float | None
    sights: float | None


class Learner:
    """Weights, their optimizer and what they are trained for."""

    def __init__(self, trainee: Trainee, config: TrainConfig) -> None:
        self.trainee = trainee.to(config.device)
        if config.is_compiled:
            self.trainee.network.model.compile(dynamic=False)
        self._config = config
        self._objective = Objective(config.weights).to(config.device)
        self.optimizer = make_optimizer(trainee, config.optimizer)
        self._balance = ExpertBalance(trainee, config.optimizer.balance_rate)
        self._parameters = list(trainee.parameters())

    def step(self, batches: Sequence[Batch], step: int, schedule: Schedule) -> StepResult:
        """Take one step; the weights stay if anything is not finite."""
        self.trainee.train()
        rate = set_rate(self.optimizer, self._config.optimizer, schedule, step)
        self.optimizer.zero_grad(set_to_none=True)
        means = self._descend(batches, step)
        longest = self._config.optimizer.longest_gradient
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, longest))
        is_finite = bool(np.isfinite([norm, *(each or 0.0 for each in means)]).all())
        busiest = None
        if is_finite:
            self.optimizer.step()
            busiest = self._balance.step()
        else:
            self._balance.forget()
        return StepResult(*means, norm, rate, not is_finite, busiest)

    def _descend(self, batches: Sequence[Batch], step: int) -> _Means:
        """Add up gradients of the means over all micro-batches; return these means."""
        moved = [batch.to(self._config.device) for batch in batches]
        weight = float(sum(self._objective.position_weights(batch).sum() for batch in moved))
        spoken = sum(len(batch.mouth.positions) for batch in moved) if self.trainee.mouth is not None else 0
        heard = sum(len(batch.phonemes) for batch in moved)
        seen = sum(batch.seen for batch in moved)
        tokens = mouth = phonemes = sights = 0.0
        for number, batch in enumerate(moved):
            with self._autocast():
                found = self._objective(self.trainee, batch, self._random(step, number))
            mean = found.tokens / weight
            weights = self._config.weights
            total = mean + weights.mouth * found.mouth / max(1, spoken)
            total = total + weights.phonemes * found.phonemes / max(1, heard)
            (total + weights.sights * found.sights / max(1, seen)).backward()
            tokens += float(mean.detach())
            mouth += float(found.mouth.detach()) / max(1, spoken)
            phonemes += float(found.phonemes.detach()) / max(1, heard)
            sights += float(found.sights.detach()) / max(1, seen)
        return _Means(
            tokens,
            mouth=mouth if spoken else None,
            phonemes=phonemes if heard else None,
            sights=sights if seen else None,
        )

    def _autocast(self) -> torch.autocast:
        device = torch.device(self._config.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self._config.precision == "bfloat16")

    def _random(self, step: int, micro_batch: int) -> torch.Generator:
        """What the noise of one micro-batch is drawn with."""
        seeds = np.random.SeedSequence([self._config.seed, step, micro_batch]).generate_state(1)
        return torch.Generator().manual_seed(int(seeds[0]))
