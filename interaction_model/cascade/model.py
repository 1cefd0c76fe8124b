"""The cascade: ears, a decision, a mouth, put together behind the `InteractionModel` interface.

It is the harness that hears real people on two CPU cores. What takes longer than a beat (recognition, the
judgement of a turn's end) runs on threads of its own and is looked at in a later step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from microturn.interaction_model.cascade.dialogue import Dialogue, Reaction
from microturn.interaction_model.cascade.ears import Ears, EarState, Hearing, Turn
from microturn.interaction_model.cascade.mouth import Mouth, Slice, Speaks
from microturn.interaction_model.interface import ModelSession, SessionConfig
from microturn.protocols import (
    INPUT_RATE_HZ,
    INPUT_SAMPLES,
    OUTPUT_SAMPLES,
    Action,
    Floor,
    FloorState,
    MicroTurnInput,
    MicroTurnOutput,
    OpenQuestion,
    Transcript,
)

TAKEOVER_MS = 450
"""Speech over the assistant's for at least this long, that is no backchannel, takes the floor. A backchannel
("mm-hmm", "right") is mostly shorter; our choice."""
GIVE_UP_MS = 900
"""Speech this long takes the floor whatever its words."""
RESUME_AFTER_MS = 350
"""Silence after which the assistant goes on if nothing was understood of what made it pause."""
ENCOURAGE_MS = 450
"""Silence after which a user who may not have finished hears that they are being listened to, where nothing else is
being said. The detector's silence begins about 100 ms late, so this is at most 0.8 s on the beat. Our choice."""
ENCOURAGE_EVERY_SAMPLES = INPUT_RATE_HZ * 6 // 5
"""Least time between the silences of two backchannels: 1.2 s, so that they do not become a tic. Our choice."""
BACKCHANNEL = "Uh-huh."
COMPLETES_MS = 1500
"""A request that begins within this time after the end of another one completes it: the user was taken for finished
at a thinking pause. Thinking pauses rarely last longer than a second; our choice."""
TYPED_TURN = 1_000_000
"""Turn numbers of typed lines begin here, so that they never meet those of speech."""


@dataclass(slots=True)
class CascadeSession:
    """One conversation of a `CascadeModel`."""

    config: SessionConfig
    ears: EarState
    mouth: Mouth
    dialogue: Dialogue
    forget: Callable[[str], None]
    floor: FloorState = field(default_factory=FloorState)
    is_holding: bool = False
    """Whether the assistant has paused because the user may be taking the floor."""
    over_speech: set[str] = field(default_factory=set)
    """Results that may be said over the user's speech."""
    hold_until_ms: int = 0
    typed: int = 0
    last_said: str = ""
    encouraged_at: int | None = None
    """End of the speech after which a backchannel was given last, in samples."""
    last_request: Turn | None = None
    """The turn that was delegated last."""

    @property
    def session_id(self) -> str:
        """The id that it was opened with."""
        return self.config.session_id

    @property
    def may_go_on_over_speech(self) -> bool:
        """Whether what is being said need not give way to the user's voice."""
        current = self.mouth.current
        return current is not None and (
            current.source == "backchannel"
            or (current.item_id is not None and current.item_id in self.over_speech)
        )

    def snapshot(self) -> object:
        """Return a copy of the state; recognition under way is not part of it."""
        return copy.deepcopy({name: getattr(self, name) for name in _STATE})

    def rewind(self, snapshot: object) -> None:
        """Go back to a snapshot."""
        assert isinstance(snapshot, dict)
        self.forget(self.session_id)
        for name, value in copy.deepcopy(snapshot).items():
            setattr(self, name, value)

    def close(self) -> None:
        """Drop the work under way for it."""
        self.forget(self.session_id)


_STATE = tuple(each.name for each in fields(CascadeSession) if each.name not in {"config", "forget"})
"""What a snapshot holds."""


@dataclass(slots=True)
class _Step:
    """What one step of one session has come to so far."""

    given: MicroTurnInput
    count: int
    transcripts: list[Transcript] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    playout: Literal["play", "hold", "stop"] = "play"


class CascadeModel:
    """Loaded ears and voice that serve many sessions; `load_cascade` makes one from the shipped weights."""

    def __init__(
        self, ears: Ears, voice: Speaks, dialogue: Callable[[int], Dialogue], *, fingerprint: str = "cascade"
    ) -> None:
        """`dialogue` makes the decisions of a new session from its seed; `fingerprint` names weights and versions."""
        self.fingerprint = fingerprint
        self._ears = ears
        self._voice = voice
        self._dialogue = dialogue
        self._sessions: dict[str, CascadeSession] = {}

    def open(self, config: SessionConfig) -> CascadeSession:
        """Begin a session."""
        session = CascadeSession(
            config, self._ears.start(), Mouth(self._voice), self._dialogue(config.seed), self._forget
        )
        self._sessions[config.session_id] = session
        return session

    def settle(self) -> None:
        """Wait until recognition and judgement are done."""
        self._ears.settle()

    def close(self) -> None:
        """End the threads."""
        self._ears.close()

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every session by one step."""
        return [self._step(self._sessions[session.session_id], given) for session, given in inputs]

    def _forget(self, session_id: str) -> None:
        self._ears.forget(session_id)

    def _step(self, session: CascadeSession, given: MicroTurnInput) -> MicroTurnOutput:
        step = _Step(given, max(1, len(given.audio) // INPUT_SAMPLES))
        session.ears, hearing = self._ears.step(session.session_id, session.ears, given.audio)
        self._note_partial(step, hearing)
        self._guard_floor(session, step, hearing)
        if hearing.ended is not None:
            self._take_turn(session, step, hearing.ended)
        self._encourage(session, hearing)
        for line in given.text:
            self._take_typed(session, step, line)
        for woven in given.woven:
            if woven.interrupts:
                session.over_speech.add(woven.item_id)
            session.mouth.say(woven.text, "woven", item_id=woven.item_id, urgent=woven.interrupts)
        if step.count > 1:
            session.mouth.pause()
        said = Slice() if session.is_holding else session.mouth.speak(OUTPUT_SAMPLES)
        for utterance in said.utterances:
            session.last_said = utterance.text
        session.floor = self._floor(session, hearing, given.end_ms)
        return MicroTurnOutput(
            index=given.index,
            audio=said.audio,
            floor=session.floor,
            actions=tuple(step.actions),
            utterances=said.utterances,
            words=said.words,
            transcripts=tuple(step.transcripts),
            playout="hold" if session.is_holding else step.playout,
        )

    def _note_partial(self, step: _Step, hearing: Hearing) -> None:
        turn = hearing.open_turn
        if turn is not None and hearing.text_is_new:
            step.transcripts.append(_transcript(turn, final=False))

    def _guard_floor(self, session: CascadeSession, step: _Step, hearing: Hearing) -> None:
        """Fall silent at the first sign of the user's voice, and find out whether it takes the floor.

        Silence comes at once and costs little; giving the floor away is decided when it is known what the sound
        was: a cough and an "mm-hmm" are no reason to stop.
        """
        speaks = session.mouth.is_speaking or session.floor.holder in {Floor.ASSISTANT, Floor.BOTH}
        if not speaks or session.may_go_on_over_speech:
            session.is_holding = False
            return
        activity = hearing.activity
        voice = activity.speaking or activity.may_be_starting or activity.speech_ms > 0
        if not session.is_holding:
            session.is_holding = voice
            return
        text = hearing.open_turn.text if hearing.open_turn is not None else ""
        if hearing.speech_ms >= GIVE_UP_MS or (
            hearing.speech_ms >= TAKEOVER_MS and text and session.dialogue.takes_floor(text)
        ):
            self._yield_floor(session, step)
        elif not voice and hearing.ended is None and self._was_nothing(hearing, text):
            session.is_holding = False

    def _was_nothing(self, hearing: Hearing, text: str) -> bool:
        """Whether the sound that made the assistant pause turned out to be no words."""
        silence_ms = hearing.activity.silence_ms
        if hearing.open_turn is None:
            return True
        return (
            hearing.text_is_complete and not text and silence_ms is not None and silence_ms >= RESUME_AFTER_MS
        )

    def _yield_floor(self, session: CascadeSession, step: _Step) -> None:
        session.mouth.clear()
        session.is_holding = False
        step.playout = "stop"

    def _encourage(self, session: CascadeSession, hearing: Hearing) -> None:
        """Give a backchannel to a turn that has fallen silent and does not sound finished, one in each silence."""
        turn, activity = hearing.open_turn, hearing.activity
        if turn is None or not turn.text or activity.last_speech_end is None or session.mouth.is_speaking:
            return
        last = session.encouraged_at
        if last is not None and activity.last_speech_end - last < ENCOURAGE_EVERY_SAMPLES:
            return
        if activity.speaking or activity.may_be_starting or (activity.silence_ms or 0.0) < ENCOURAGE_MS:
            return
        session.encouraged_at = activity.last_speech_end
        session.mouth.say(BACKCHANNEL, "backchannel")

    def _take_turn(self, session: CascadeSession, step: _Step, turn: Turn) -> None:
        """Decide about a turn that has ended."""
        step.transcripts.append(_transcript(turn, final=True))
        reaction = _reaction(session, turn, step.given.question)
        last = session.last_request
        if reaction.is_request and last is not None and turn.start_ms - last.end_ms <= COMPLETES_MS:
            turn = replace(turn, text=f"{last.text} {turn.text}", start_ms=last.start_ms)
            reaction = session.dialogue.complete(turn.text, turn.start_ms, turn.end_ms)
        session.last_request = turn if reaction.is_request else None
        if not reaction.takes_floor:
            session.is_holding = False
            return
        if session.is_holding:
            self._yield_floor(session, step)
        step.actions.extend(reaction.actions)
        session.hold_until_ms = step.given.end_ms + reaction.hold_ms if reaction.hold_ms else 0
        session.mouth.say(reaction.say, reaction.source)

    def _take_typed(self, session: CascadeSession, step: _Step, line: str) -> None:
        if session.mouth.is_speaking and not session.may_go_on_over_speech:
            self._yield_floor(session, step)
        now_ms = step.given.end_ms
        self._take_turn(session, step, Turn(TYPED_TURN + session.typed, line, now_ms, now_ms))
        session.typed += 1

    def _floor(self, session: CascadeSession, hearing: Hearing, now_ms: int) -> FloorState:
        """Who speaks at the end of this step, and since when."""
        user = hearing.activity.speaking or hearing.activity.may_be_starting
        assistant = session.mouth.is_speaking
        holder = {
            (False, False): Floor.NOBODY,
            (True, False): Floor.USER,
            (False, True): Floor.ASSISTANT,
            (True, True): Floor.BOTH,
        }[user, assistant]
        since_ms = session.floor.since_ms if holder is session.floor.holder else now_ms
        finished = hearing.open_turn is None and now_ms >= session.hold_until_ms
        is_held = now_ms < session.hold_until_ms
        return FloorState(holder, since_ms, user_finished=finished, is_held=is_held)


def _reaction(session: CascadeSession, turn: Turn, question: OpenQuestion | None) -> Reaction:
    """What is done about a turn; what was said before a question was understood is no answer to it."""
    dialogue, said = session.dialogue, (turn.text, turn.start_ms, turn.end_ms, session.last_said)
    if question is None or turn.end_ms < question.since_ms:
        return dialogue.react(*said)
    return dialogue.answer(question.item_id, *said)


def _transcript(turn: Turn, *, final: bool) -> Transcript:
    end_ms = max(turn.end_ms, turn.start_ms)
    is_typed = turn.number >= TYPED_TURN
    return Transcript(turn.number, turn.text, turn.start_ms, end_ms, final, is_typed)
