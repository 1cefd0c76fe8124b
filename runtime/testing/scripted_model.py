"""An interaction model that follows a script: no weights, no sound in, the same every time.

The script says when the user speaks and what is understood; a function says what the model answers. Turn-taking
(barge-in, reply due, thinking pauses) follows the same contract as the real models, so that whatever is built
around a model can be tested with it on a virtual clock.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from microturn.interaction_model import ModelSession, SessionConfig
from microturn.interaction_model.cascade.mouth import Mouth
from microturn.protocols import (
    MICRO_TURN_MS,
    OUTPUT_RATE_HZ,
    OUTPUT_SAMPLES,
    Action,
    Floor,
    FloorState,
    MicroTurnInput,
    MicroTurnOutput,
    Samples,
    Transcript,
)

WORD_MS = 300
"""How long the scripted voice takes for a word, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class UserLine:
    """What the user says, and when."""

    start_ms: int
    end_ms: int
    text: str
    finished: bool = True
    """False for a part that is followed by a thinking pause: the floor stays the user's in spirit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model does about something that the user said."""

    say: str = ""
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class _WordEnd:
    end_sample: int


@dataclass(frozen=True, slots=True)
class _Tone:
    audio: Samples
    words: tuple[_WordEnd, ...]


class ToneVoice:
    """Says every word as a tone of the same length and level, so that speech can be measured exactly."""

    LEVEL = 0.25

    def __init__(self, word_ms: int = WORD_MS) -> None:
        self.word_ms = word_ms
        """How long a word takes; shorter ones make tests on a wall clock shorter."""

    def sentences(self, text: str) -> list[str]:
        """The whole text is one sentence."""
        return [text]

    def render(self, text: str) -> _Tone:
        """Return the tone and where each word ends in it."""
        samples = OUTPUT_RATE_HZ * self.word_ms // 1000
        words = len(text.split())
        ends = tuple(_WordEnd((n + 1) * samples) for n in range(words))
        return _Tone(np.full(words * samples, self.LEVEL, np.float32), ends)


@dataclass(slots=True)
class ScriptedSession:
    """The state of one session of a `ScriptedModel`."""

    session_id: str
    mouth: Mouth
    done: int = 0
    """Lines of the script that have ended."""
    floor: FloorState = field(default_factory=FloorState)
    inputs: list[MicroTurnInput] = field(default_factory=list)
    """Every input of every step, for assertions."""
    closed: bool = False

    def snapshot(self) -> object:
        """Return a copy of the state."""
        return copy.deepcopy((self.mouth, self.done, self.floor))

    def rewind(self, snapshot: object) -> None:
        """Go back to a snapshot."""
        assert isinstance(snapshot, tuple)
        self.mouth, self.done, self.floor = copy.deepcopy(snapshot)

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class ScriptedModel:
    """Hears the lines of a script and answers by a function."""

    fingerprint = "scripted"

    def __init__(
        self,
        lines: Iterable[UserLine] = (),
        answer: Callable[[str], Answer] = lambda _: Answer(),
        voice: ToneVoice | None = None,
    ) -> None:
        self._lines = sorted(lines, key=lambda line: line.start_ms)
        self._answer = answer
        self._voice = voice or ToneVoice()
        self.sessions: dict[str, ScriptedSession] = {}

    def open(self, config: SessionConfig) -> ScriptedSession:
        """Begin a session at the start of the script."""
        session = ScriptedSession(config.session_id, Mouth(self._voice))
        self.sessions[config.session_id] = session
        return session

    def settle(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Nothing to give back."""

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every session along the script."""
        return [self._step(self.sessions[session.session_id], given) for session, given in inputs]

    def _step(self, session: ScriptedSession, given: MicroTurnInput) -> MicroTurnOutput:
        session.inputs.append(given)
        count = max(1, len(given.audio) // 3200)
        start_ms, end_ms = given.end_ms - count * MICRO_TURN_MS, given.end_ms
        speaking = any(line.start_ms < end_ms and line.end_ms > start_ms for line in self._lines)
        still = any(line.start_ms < end_ms < line.end_ms for line in self._lines)
        stop = speaking and session.mouth.is_speaking
        if stop:
            session.mouth.clear()
        transcripts, actions = self._listen(session, given)
        for woven in given.woven:
            session.mouth.say(woven.text, "woven", item_id=woven.item_id, urgent=woven.interrupts)
        if count > 1:
            session.mouth.pause()
        said = session.mouth.speak(OUTPUT_SAMPLES)
        session.floor = self._floor(session, still, end_ms)
        return MicroTurnOutput(
            index=given.index,
            audio=said.audio,
            floor=session.floor,
            actions=tuple(actions),
            utterances=said.utterances,
            words=said.words,
            transcripts=tuple(transcripts),
            playout="stop" if stop else "play",
        )

    def _listen(
        self, session: ScriptedSession, given: MicroTurnInput
    ) -> tuple[list[Transcript], list[Action]]:
        ended = []
        while session.done < len(self._lines) and self._lines[session.done].end_ms <= given.end_ms:
            line = self._lines[session.done]
            ended.append(Transcript(session.done, line.text, line.start_ms, line.end_ms, line.finished))
            session.done += 1
        ended += [
            Transcript(10_000 + n, text, given.end_ms, given.end_ms, True, typed=True)
            for n, text in enumerate(given.text)
        ]
        actions: list[Action] = []
        for transcript in ended:
            answer = self._answer(transcript.text) if transcript.final else Answer()
            actions.extend(answer.actions)
            if answer.say:
                session.mouth.say(answer.say, "reply")
        return ended, actions

    def _floor(self, session: ScriptedSession, user_speaks: bool, now_ms: int) -> FloorState:
        assistant_speaks = session.mouth.is_speaking
        holder = {
            (False, False): Floor.NOBODY,
            (True, False): Floor.USER,
            (False, True): Floor.ASSISTANT,
            (True, True): Floor.BOTH,
        }[user_speaks, assistant_speaks]
        since = session.floor.since_ms if holder is session.floor.holder else now_ms
        finished = session.done == 0 or self._lines[session.done - 1].finished
        return FloorState(holder, since, user_finished=finished)
