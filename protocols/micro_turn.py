"""What goes into and comes out of one 200 ms micro-turn.

Time is counted in samples from the start of the session, never read from a clock: micro-turn `n` carries the
sound from `n * 200` ms to `(n + 1) * 200` ms. The types are frozen dataclasses because they are made and read on
every beat; what crosses a process is pydantic (see `context.py`, `delegation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

MICRO_TURN_MS = 200
"""Length of one micro-turn, in milliseconds."""
INPUT_RATE_HZ = 16_000
"""Rate of the sound that an interaction model hears."""
OUTPUT_RATE_HZ = 24_000
"""Rate of the sound that an interaction model makes."""
INPUT_SAMPLES = INPUT_RATE_HZ * MICRO_TURN_MS // 1000
"""Samples heard per micro-turn: 3,200."""
OUTPUT_SAMPLES = OUTPUT_RATE_HZ * MICRO_TURN_MS // 1000
"""Samples said per micro-turn: 4,800."""

Samples: TypeAlias = npt.NDArray[np.float32]
"""Mono sound, shape `(S,)`, in the range -1 to 1."""

OUTPUT_LEAD_SAMPLES = 960
"""How far an output may run ahead of the beat (40 ms): the first one of a speech is longer by this much, so that
a step that is a little late leaves no gap between words."""

SILENCE: Samples = np.zeros(0, np.float32)
"""An output that says nothing. It is empty, so that silence is never queued behind itself."""


class Floor(StrEnum):
    """Who is speaking."""

    NOBODY = "nobody"
    USER = "user"
    ASSISTANT = "assistant"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class FloorState:
    """The floor at the end of a micro-turn, as the interaction model judges it."""

    holder: Floor = Floor.NOBODY
    since_ms: int = 0
    """Session time at which `holder` took the floor."""
    user_finished: bool = True
    """Whether the last thing that the user said sounds complete; false during a thinking pause."""
    reply_due: bool = False
    """Whether the model still owes the user an answer of its own to what was just said."""
    is_held: bool = False
    """Whether the user asked for a moment: until it is over nothing is brought up that does not interrupt."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame."""

    time_ms: int
    """Session time at which it was taken."""
    pixels: npt.NDArray[np.uint8]
    """RGB, shape `(height, width, 3)`."""


@dataclass(frozen=True, slots=True)
class WovenText:
    """A result, or a part of one, that is to be said now. It is data: it can be spoken, and triggers nothing."""

    item_id: str
    """The weaver's name for it; comes back on the utterance that speaks it."""
    text: str
    interrupts: bool = False
    """Whether it may be said over the user's speech."""
    asks: bool = False
    """Whether it ends with a question; once it is understood it is the `MicroTurnInput.question`."""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that the user has understood and not answered. What they say next is its answer, unless it is plainly
    something else; see `Answer`."""

    item_id: str
    """The `WovenText.item_id` of the question."""
    since_ms: int
    """Session time at which it was understood: what was said before is no answer."""


@dataclass(frozen=True, slots=True)
class WordsHeard:
    """How far the listener has really got in an utterance, from the playout."""

    utterance_id: str
    words: int
    """Words played to their end."""
    finished: bool
    """Whether nothing more of it will be played: it ended, or was cut off."""


@dataclass(frozen=True, slots=True)
class MicroTurnInput:
    """What arrived since the last step of this session."""

    index: int
    """Number of the newest micro-turn in `audio`, counted from 0."""
    audio: Samples
    """What was heard at 16 kHz, shape `(k * 3200,)`; k is 1, or more when late steps are made up."""
    frames: tuple[Frame, ...] = ()
    text: tuple[str, ...] = ()
    """Lines that the user typed."""
    woven: tuple[WovenText, ...] = ()
    heard: tuple[WordsHeard, ...] = ()
    question: OpenQuestion | None = None
    """What waits for the user's answer; at most one thing does."""

    @property
    def end_ms(self) -> int:
        """Session time at the end of this input."""
        return (self.index + 1) * MICRO_TURN_MS


UtteranceSource: TypeAlias = Literal["reply", "filler", "woven", "backchannel"]
"""Why something is said: `reply`, an answer of the model's own; `filler`, a phrase that opens an answer whose content
takes longer; `woven`, a result; `backchannel`, a sign of listening that takes no floor."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that the assistant begins to say; its words follow as they are sent."""

    utterance_id: str
    text: str
    source: UtteranceSource
    item_id: str | None = None
    """For `woven`: the `WovenText.item_id`."""
    start_sample: int = 0
    """Where it begins in this output's audio."""

    @property
    def words(self) -> int:
        """How many words it has, split at white space."""
        return len(self.text.split())


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word whose last sound lies in this output."""

    utterance_id: str
    index: int
    """Its number in the utterance's text, counted from 0."""
    end_sample: int
    """Where it ends in this output's audio."""
    last: bool = False
    """Whether it is the utterance's last word."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the model understood of the user's speech. A partial is replaced by the next one of the same turn."""

    turn: int
    """Number of the user's turn, counted from 0."""
    text: str
    start_ms: int
    end_ms: int
    final: bool
    typed: bool = False
    """Whether it was written, not spoken."""


@dataclass(frozen=True, slots=True)
class Delegate:
    """Hand a task to the background."""

    intent: str
    """What is to be done, in the user's words or better ones."""
    said_start_ms: int
    said_end_ms: int
    """Session time of the words that caused it."""
    agent: str = "default"
    urgent: bool = False
    """Whether it overtakes whatever waits for a worker."""
    completes_last: bool = False
    """Whether these are the words of the last delegation, completed: the user was taken for finished too early. The
    last one is cancelled."""


@dataclass(frozen=True, slots=True)
class Update:
    """Tell a running task what has changed, or with `task_id=None` the newest that runs; a new task if none does."""

    task_id: str | None
    text: str
    said_start_ms: int
    said_end_ms: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a running task, or all of the session's with `task_id=None`."""

    task_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with what was cut off: the user asked for the rest."""


@dataclass(frozen=True, slots=True)
class Dismiss:
    """Drop what was cut off: the user does not want the rest."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a question that was put to the user. It is no correction of the task that asks."""

    item_id: str
    """The `WovenText.item_id` of the question."""
    text: str
    """The user's own words."""
    said_start_ms: int
    said_end_ms: int
    """Session time of the words."""


Action: TypeAlias = Delegate | Update | Cancel | Resume | Dismiss | Answer


@dataclass(frozen=True, slots=True)
class MicroTurnOutput:
    """What the model says and decides in one step."""

    index: int
    audio: Samples = field(default_factory=lambda: SILENCE)
    """At 24 kHz, shape `(S,)`; empty when the model is silent. All outputs of a speech together are never more than
    `OUTPUT_LEAD_SAMPLES` ahead of the beat."""
    text: str = ""
    """What is written to the screen."""
    floor: FloorState = FloorState()
    actions: tuple[Action, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    words: tuple[SpokenWord, ...] = ()
    transcripts: tuple[Transcript, ...] = ()
    playout: Literal["play", "hold", "stop"] = "play"
    """What becomes of speech that was sent and not yet played. `hold`: wait, the user may be taking the floor;
    a later `play` goes on at the same sample. `stop`: discard it, the user has the floor."""
