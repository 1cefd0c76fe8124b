"""A background that needs no server: a delegation port whose results come by script, in session time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from microturn.protocols import ContextPackage, DelegationEvent, EventKind, Speech
from microturn.runtime.delegations import PortState


@dataclass(frozen=True, slots=True)
class Result:
    """One event that comes back, and how long after the hand-over."""

    after_ms: float
    kind: EventKind
    speech: Speech | None = None


@dataclass(slots=True)
class ScriptedBackground:
    """Answers every package with the results that `work` gives for it.

    `now_ms` must give the session time; `Host.beat.session_ms` does.
    """

    work: Callable[[ContextPackage], Sequence[Result]] = lambda _: ()
    now_ms: Callable[[], float] = lambda: 0.0
    limit: int = 64
    """Packages that are taken; one more is refused."""
    state: PortState = "ok"
    packages: list[ContextPackage] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    updates: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    _due: list[tuple[float, DelegationEvent]] = field(default_factory=list)

    def submit_nowait(self, package: ContextPackage) -> bool:
        """Take a package and plan its results."""
        if len(self.packages) >= self.limit:
            return False
        self.packages.append(package)
        for seq, result in enumerate(self.work(package), start=1):
            event = DelegationEvent(
                task_id=package.task_id, attempt=1, seq=seq, kind=result.kind, speech=result.speech
            )
            self._due.append((self.now_ms() + result.after_ms, event))
        return True

    def cancel_nowait(self, task_id: str, reason: str) -> None:
        """Forget the task's results that have not come."""
        self.cancelled.append(task_id)
        self._due = [(due, event) for due, event in self._due if event.task_id != task_id]

    def update_nowait(self, task_id: str, text: str) -> None:
        """Keep the update."""
        self.updates.append((task_id, text))

    def deliver(self, event: DelegationEvent) -> None:
        """Let an event arrive now, as often as this is called."""
        self._due.append((self.now_ms(), event))

    def poll(self) -> Sequence[DelegationEvent]:
        """Return the events whose time has come."""
        now_ms = self.now_ms()
        ready = [event for due, event in self._due if due <= now_ms]
        self._due = [(due, event) for due, event in self._due if due > now_ms]
        return ready

    def acknowledge_nowait(self, task_id: str, seq: int) -> None:
        """Keep the acknowledgement."""
        self.acknowledged.append((task_id, seq))
