"""The learning rate: rises, stays, and falls to nothing at the end that the run is told of while it goes.

A run may thus be stopped and taken up again without a plan of its length; the fall is where most of the late gain is.
Source: constant rate with a cooldown in the form 1 - sqrt (Hägele et al., "Scaling Laws and Compute-Optimal Training
Beyond Fixed Training Durations", 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Schedule:
    """A factor of the learning rate for each step."""

    warm_up_steps: int
    begins_at: int = 0
    """The step from which the rate rises: 0, or where a finished run was taken up again."""
    falls_at: int | None = None
    """The first step of the fall; None while no end is known."""
    fall_steps: int = 0

    def factor(self, step: int) -> float:
        """Return the factor of a step, from 0 to 1."""
        rise = min(1.0, (step - self.begins_at + 1) / self.warm_up_steps)
        if self.falls_at is None or step < self.falls_at:
            return rise
        passed = (step - self.falls_at + 1) / (self.fall_steps + 1)
        return rise * max(0.0, 1.0 - math.sqrt(passed))

    @property
    def ends_at(self) -> int | None:
        """The first step behind the fall; None while no end is known."""
        return None if self.falls_at is None else self.falls_at + self.fall_steps

    def falling(self, step: int, steps: int) -> Schedule:
        """Return the schedule that falls over so many steps from a step on."""
        return replace(self, falls_at=step, fall_steps=steps)

    def taken_up(self, step: int) -> Schedule:
        """Return a schedule that rises again if the fall is over at `step`; else this one."""
        over = self.ends_at is not None and step >= self.ends_at
        return Schedule(self.warm_up_steps, begins_at=step) if over else self
