"""Whether the bus works, told without asking anyone: the beat reads it, the bus's own tasks write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Part: TypeAlias = Literal["sending", "storing", "reading", "presence"]


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the bus at one moment."""

    state: Literal["ok", "degraded"]
    since_s: float
    """When this state began, on the port's clock."""
    reason: str = ""
    """Which part fails, and with what kind of error."""
    workers: int | None = None
    """Live workers at the last count; None before the first."""


class HealthMonitor:
    """Gathers what the parts of a port report. The bus is degraded as long as any of them fails."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failing: dict[Part, str] = {}
        self.now = Health("ok", clock())

    def works(self, part: Part) -> None:
        """A part reached the server."""
        if self._failing.pop(part, None) is not None:
            self._renew()

    def fails(self, part: Part, error: BaseException) -> None:
        """A part could not reach the server."""
        if part not in self._failing:
            self._failing[part] = type(error).__name__
            self._renew()

    def count_workers(self, workers: int) -> None:
        """Note how many workers live."""
        if workers != self.now.workers:
            self.now = Health(self.now.state, self.now.since_s, self.now.reason, workers)

    def _renew(self) -> None:
        state: Literal["ok", "degraded"] = "degraded" if self._failing else "ok"
        since_s = self.now.since_s if state == self.now.state else self._clock()
        reason = ", ".join(f"{part}: {name}" for part, name in sorted(self._failing.items()))
        self.now = Health(state, since_s, reason, self.now.workers)
