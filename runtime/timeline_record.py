"""What a timeline shows: who spoke when, what was delegated, how long each step took. Pure data."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from microturn.protocols import TERMINAL, DelegationEvent, Floor, Samples, UtteranceSource

ENVELOPE_MS = 20
"""Length of sound behind one point of an outline."""


class Envelope:
    """The outline of a sound: its peak in every `ENVELOPE_MS`. Grows by 4 bytes for each."""

    def __init__(self, rate_hz: int) -> None:
        self._hop = rate_hz * ENVELOPE_MS // 1000
        self._rest: list[Samples] = []
        self._rest_samples = 0
        self.peaks = array("f")

    def push(self, audio: Samples) -> None:
        """Add sound, shape `(S,)`."""
        self._rest.append(audio)
        self._rest_samples += len(audio)
        whole = self._rest_samples // self._hop
        if whole:
            sound = np.concatenate(self._rest)
            blocks = sound[: whole * self._hop].reshape(whole, self._hop)
            self.peaks.extend(np.abs(blocks).max(axis=1).tolist())
            self._rest = [sound[whole * self._hop :]]
            self._rest_samples = len(self._rest[0])


@dataclass(slots=True)
class UserTurn:
    """Something that the user said."""

    start_ms: float
    end_ms: float
    text: str
    typed: bool = False


@dataclass(slots=True)
class SpokenUtterance:
    """Something that the assistant said."""

    utterance_id: str
    start_ms: float
    text: str
    source: UtteranceSource
    task_id: str | None
    end_ms: float | None = None
    words_heard: int = 0
    words_total: int = 0

    @property
    def was_cut_off(self) -> bool:
        """Whether the user did not hear all of it."""
        return self.end_ms is not None and self.words_heard < self.words_total


@dataclass(slots=True)
class ToolRun:
    """One call of a tool inside a task."""

    key: str
    name: str
    start_ms: float
    end_ms: float | None = None


@dataclass(slots=True)
class TaskRun:
    """One delegation, from hand-over to its end."""

    task_id: str
    intent: str
    start_ms: float
    end_ms: float | None = None
    state: str = "submitted"
    tools: list[ToolRun] = field(default_factory=list)
    spoken_ms: list[float] = field(default_factory=list)
    """When pieces of a result arrived that have words to be said."""

    def note(self, event: DelegationEvent, at_ms: float) -> None:
        """Take in an event of the task; what comes after its end changes nothing."""
        if self.end_ms is not None:
            return
        self.state = event.kind
        if event.speech is not None and event.speech.mode != "silent":
            self.spoken_ms.append(at_ms)
        if event.kind in TERMINAL:
            self.end_ms = at_ms
        elif event.kind in ("tool_started", "tool_finished"):
            self._note_tool(event, at_ms)

    def _note_tool(self, event: DelegationEvent, at_ms: float) -> None:
        name = str(event.detail.get("tool", "tool"))
        key = f"{name} {event.detail.get('call')}"
        running = [tool for tool in self.tools if tool.key == key and tool.end_ms is None]
        if event.kind == "tool_started":
            self.tools.append(ToolRun(key, name, at_ms))
        elif running:
            running[0].end_ms = at_ms


@dataclass(slots=True)
class Record:
    """All of a conversation that is drawn. Times are session time in milliseconds."""

    turns: list[UserTurn] = field(default_factory=list)
    utterances: list[SpokenUtterance] = field(default_factory=list)
    tasks: dict[str, TaskRun] = field(default_factory=dict)
    barge_ins_ms: list[float] = field(default_factory=list)
    floor: list[tuple[float, Floor]] = field(default_factory=list)
    """Changes of the floor and when they were noticed."""
    tick_ends_ms: array[float] = field(default_factory=lambda: array("d"))
    step_ms: array[float] = field(default_factory=lambda: array("f"))
    missed: int = 0
    heard_peaks: array[float] = field(default_factory=lambda: array("f"))
    """One for each step, where the sound itself was not given."""
    heard: array[float] = field(default_factory=lambda: array("f"))
    """Outline of the user's side from session time 0, one point per `ENVELOPE_MS`; empty without a tap."""
    played: array[float] = field(default_factory=lambda: array("f"))
    """Outline of the assistant's side from the end of micro-turn 0; empty without a tap."""

    @property
    def end_ms(self) -> float:
        """When the last step ended; at least one micro-turn."""
        return max(200.0, self.tick_ends_ms[-1] if self.tick_ends_ms else 0.0)
