"""What some steps found together: one line of the log."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from microturn.interaction_model.training.curves import Record
from microturn.interaction_model.training.learner import StepResult
from microturn.interaction_model.training.scorers import mean
from microturn.interaction_model.training.train_state import Totals


@dataclass(slots=True)
class LogWindow:
    """Steps since the last line."""

    results: list[StepResult] = field(default_factory=list)
    tokens: int = 0
    passed_s: float = 0.0

    def add(self, result: StepResult, tokens: int, passed_s: float) -> None:
        """Take note of a step."""
        self.results.append(result)
        self.tokens += tokens
        self.passed_s += passed_s

    def record(self, step: int, totals: Totals) -> Record:
        """Return means over the steps that were not skipped, and what the run has done so far."""
        taken = [result for result in self.results if not result.is_skipped]
        return {
            "kind": "train",
            "step": step,
            "loss": mean([result.loss for result in taken]),
            "mouth": mean([result.mouth for result in taken if result.mouth is not None]),
            "phonemes": mean([result.phonemes for result in taken if result.phonemes is not None]),
            "sights": mean([result.sights for result in taken if result.sights is not None]),
            "norm": mean([result.norm for result in taken]),
            "rate": self.results[-1].rate if self.results else None,
            "busiest": mean([result.busiest for result in taken if result.busiest is not None]),
            "kilotokens_per_s": self.tokens / self.passed_s / 1000 if self.passed_s > 0 else math.nan,
            "audio_h": totals.audio_s / 3600,
            "elapsed_s": totals.elapsed_s,
            "tokens": totals.tokens,
            "skipped": totals.skipped,
        }
