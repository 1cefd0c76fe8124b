"""A stage: one session of a scripted conversation, run on a virtual clock, with everything seen kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from microturn.protocols import MICRO_TURN_MS, ContextPackage, Samples
from microturn.runtime.beat import Tick
from microturn.runtime.clock import VirtualClock
from microturn.runtime.events import SessionEvent
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.remarks import Remarks
from microturn.runtime.reopened import Reopened, with_words_heard
from microturn.runtime.session import Session
from microturn.runtime.testing.scripted_background import Result, ScriptedBackground
from microturn.runtime.testing.scripted_model import Answer, ScriptedModel, UserLine
from microturn.runtime.weave_policy import WeavePolicy

E = TypeVar("E", bound=SessionEvent)


@dataclass(slots=True)
class _Recording:
    played_parts: list[Samples] = field(default_factory=list)

    def heard(self, audio: Samples) -> None:
        """The scripted model hears its script, not sound."""

    def played(self, audio: Samples) -> None:
        """Keep what was played."""
        self.played_parts.append(audio)


class Stage:
    """Runs a scripted conversation; see `tests/runtime/test_weaving.py` for use."""

    def __init__(
        self,
        lines: Iterable[UserLine] = (),
        answer: Callable[[str], Answer] = lambda _: Answer(),
        work: Callable[[ContextPackage], Sequence[Result]] = lambda _: (),
        policy: WeavePolicy | None = None,
        *,
        background: ScriptedBackground | None = None,
        reopened: Reopened | None = None,
        remarks: Remarks | None = None,
    ) -> None:
        """Set a stage.

        Args:
            lines: what the user says.
            answer: what the model does about it.
            work: what comes back for each package.
            policy: when results are said.
            background: one that is there already, in place of one for `work`; its clock goes on.
            reopened: what another session left that this one goes on with.
            remarks: what is said while the background is slow; nothing unless given.
        """
        self.model = ScriptedModel(lines, answer)
        self.clock = VirtualClock()
        self.host = Host(self.model, self.clock)
        self.background = background or ScriptedBackground(work, self.host.beat.session_ms)
        self.events: list[SessionEvent] = []
        self.source = Ingress()
        self.source.close()
        self.session = Session(
            "stage",
            self.source,
            self.background,
            policy=policy,
            observers=[self.events.append],
            reopened=reopened,
            remarks=remarks or Remarks(()),
            fingerprint=self.model.fingerprint,
        )
        self._plan: list[tuple[float, Callable[[], object]]] = []
        self._recording = _Recording()
        self.host.add(self.session, taps=[self._recording])

    def taken_over(
        self,
        lines: Iterable[UserLine] = (),
        answer: Callable[[str], Answer] = lambda _: Answer(),
        *,
        after_ms: float = 0.0,
        heard: Mapping[str, int] | None = None,
    ) -> Stage:
        """Return the stage on which the conversation goes on after this one's process died.

        Args:
            lines: what the user says, on the clock of the new stage.
            answer: what the model does about it.
            after_ms: how long the session was with nobody.
            heard: what the client says that it has played.
        """
        died_ms = self.host.beat.session_ms() + after_ms
        self.background.now_ms = lambda: died_ms
        ledger = with_words_heard(self.background.ledger(), heard or {})
        stage = Stage(lines, answer, background=self.background, reopened=Reopened(ledger))
        self.background.now_ms = lambda: died_ms + stage.host.beat.session_ms()
        return stage

    def at(self, session_ms: float, action: Callable[[], object]) -> None:
        """Plan something that happens from outside, between two micro-turns."""
        self._plan.append((session_ms, action))

    async def run(self, duration_ms: int) -> None:
        """Let the conversation go on until this session time. Once for each stage: the beat begins anew."""

        def is_over(tick: Tick) -> bool:
            now_ms = (tick.index + 1) * MICRO_TURN_MS
            due = [action for at_ms, action in self._plan if at_ms <= now_ms]
            self._plan = [(at_ms, action) for at_ms, action in self._plan if at_ms > now_ms]
            for action in due:
                action()
            return now_ms >= duration_ms

        await self.host.run(until=is_over)

    def seen(self, kind: type[E]) -> list[E]:
        """Return the events of a kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def played(self) -> Samples:
        """What the listener heard, at 24 kHz, from the end of micro-turn 0."""
        return np.concatenate(self._recording.played_parts)
