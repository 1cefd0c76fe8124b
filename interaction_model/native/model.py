"""The native model behind the `InteractionModel` interface: one loaded network that serves many sessions.

A step computes what arrived for all sessions at once, asks each for tokens until it ends its micro-turn, and lets all
mouths speak. No bit of a session depends on the others. Times and counts are those of micro-turns; no clock is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model._errors import BadSoundError
from microturn.interaction_model.interface import ModelSession, SessionConfig
from microturn.interaction_model.native._errors import ClosedSessionError, TooManySessionsError
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.decoding import Answer, Emitter, Question
from microturn.interaction_model.native.emission import Emission, read_emission
from microturn.interaction_model.native.fingerprint import model_fingerprint
from microturn.interaction_model.native.mouth import Mouth, MouthState
from microturn.interaction_model.native.narration import Narration
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.perception import Arrival, Perception, Pixels
from microturn.interaction_model.native.script import Cue, Taken
from microturn.interaction_model.native.session import NativeSession, Place
from microturn.interaction_model.native.state_window import STEP_TOKENS, StateWindow
from microturn.protocols import (
    INPUT_SAMPLES,
    Floor,
    FloorState,
    MicroTurnInput,
    MicroTurnOutput,
    Samples,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Due:
    """A session with what arrived for it, checked."""

    session: NativeSession
    given: MicroTurnInput
    audio: Samples
    pixels: Pixels | None

    @property
    def turns(self) -> int:
        return len(self.audio) // INPUT_SAMPLES


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What one session did."""

    answer: Answer
    emission: Emission
    taken: Taken
    frames: Tensor
    """(16, 48)"""
    mouth: MouthState
    ends: tuple[int, ...]


class NativeModel:
    """Serves a network and a mouth. `load_native` makes one from files.

    Args:
        network: hears, sees, reads and decides.
        mouth: speaks; it must be conditioned by states of the network's width.
        window: how much is kept, and for how many sessions.
        temperature: of tokens; 0 takes the likeliest.
        threads: of PyTorch during a step. One is enough for networks of the nano's size and leaves the
            other cores to other work.
    """

    def __init__(
        self,
        network: Network,
        mouth: Mouth,
        *,
        window: StateWindow | None = None,
        temperature: float = 0.0,
        threads: int = 1,
    ) -> None:
        self.window = window or StateWindow()
        self.decoder = Decoder(
            network.model, network.lm_head.weight, self.window.cache(network.config.backbone)
        )
        self.mouth = mouth
        self.fingerprint = model_fingerprint(network, mouth, self.window, temperature)
        self._perception = Perception(network, self.decoder)
        self._emitter = Emitter(self.decoder, temperature)
        self._own_words = OwnWords(mouth.durations)
        self._threads = threads
        self._open: set[NativeSession] = set()

    def open(self, config: SessionConfig) -> NativeSession:
        """Begin a session. `config.instructions` are not read: the network has not learned to follow them.

        Raises:
            TooManySessionsError: `StateWindow.sessions` are open.
        """
        self._expect_room()
        session = NativeSession(config, self.decoder.open(), Place.begin(config.seed), self._forget)
        self._open.add(session)
        return session

    def fork(self, session: NativeSession, session_id: str) -> NativeSession:
        """Begin another session with the same past and seed; memory is shared until one of them writes.

        Raises:
            ClosedSessionError: `session` is none of this model's.
            TooManySessionsError: `StateWindow.sessions` are open.
        """
        if session not in self._open:
            raise ClosedSessionError
        self._expect_room()
        config = replace(session.config, session_id=session_id)
        twin = NativeSession(config, session.state.fork(), session.place, self._forget)
        self._open.add(twin)
        return twin

    def settle(self) -> None:
        """Nothing is ever under way: a step is done when it returns."""

    def close(self) -> None:
        """Close every session."""
        for session in list(self._open):
            session.close()

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every given session by one step.

        A late step takes in all of its sound, as micro-turns in which nothing was said, and speaks for the newest.
        Samples that are not finite are heard as silence, as one session's broken sound must not stop the others.

        Raises:
            ClosedSessionError: a session is none of this model's, or stands there twice.
            BadSoundError: the sound is not whole micro-turns of 16 kHz.
            BadFramesError: a picture cannot be used. In each case no session has changed.
        """
        due = self._checked(inputs)
        if not due:
            return []
        with _threads(self._threads):
            arrivals = [self._arrive(each) for each in due]
            hidden = self._compute([each.session for each in due], self._perception.embed(arrivals))
            said = self._speak(due, hidden)
            return [_finish(each, own) for each, own in zip(due, said, strict=True)]

    def _checked(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[_Due]:
        due: list[_Due] = []
        seen: set[ModelSession] = set()
        for session, given in inputs:
            if not isinstance(session, NativeSession) or session not in self._open or session in seen:
                raise ClosedSessionError
            seen.add(session)
            due.append(_Due(session, given, _whole_turns(given), self._perception.look(given.frames)))
        return due

    def _arrive(self, due: _Due) -> Arrival:
        place = due.session.place
        turn = due.given.index
        reading = place.reading.given(due.given.text, [woven.text for woven in due.given.woven])
        inputs, reading = reading.next(self._perception.patches(due.pixels))
        levels, hearing = place.hearing.hear(due.audio)
        script = place.script.given(due.given.woven, inputs.text, turn)
        missed = [place.stopwatches.times(before) for before in range(turn - due.turns + 1, turn)]
        stopwatches = place.stopwatches.reading(turn, inputs.text)
        due.session.place = replace(
            place, hearing=hearing, reading=reading, script=script, stopwatches=stopwatches
        )
        return Arrival((*missed, stopwatches.times(turn)), levels, inputs, due.pixels)

    def _compute(self, sessions: Sequence[NativeSession], embeddings: Sequence[Tensor]) -> list[Tensor]:
        """Append all embeddings, a part at a time: the hidden state `(C,)` behind each session's last one."""
        parts = [own.split(STEP_TOKENS) for own in embeddings]
        hidden: dict[int, Tensor] = {}
        for number in range(max(map(len, parts))):
            rows = [row for row, own in enumerate(parts) if number < len(own)]
            states = [sessions[row].state for row in rows]
            found = self.decoder.advance(states, [parts[row][number] for row in rows])
            hidden.update((row, state[-1]) for row, state in zip(rows, found, strict=True))
        return [hidden[row] for row in range(len(parts))]

    def _speak(self, due: Sequence[_Due], hidden: Sequence[Tensor]) -> list[_Said]:
        answers = self._emitter.emit([self._question(*each) for each in zip(due, hidden, strict=True)])
        emissions = [read_emission(answer.tokens) for answer in answers]
        taken = [self._taken(*each) for each in zip(due, emissions, answers, strict=True)]
        states = torch.stack([answer.hidden for answer in answers]).float()
        mouths = [_mouth(each.session, own) for each, own in zip(due, emissions, strict=True)]
        speech = self.mouth.speak(states, mouths, [each.words for each in taken])
        own = zip(answers, emissions, taken, speech.frames, speech.states, speech.ends, strict=True)
        return [_Said(*parts) for parts in own]

    def _question(self, due: _Due, hidden: Tensor) -> Question:
        session = due.session
        cue = Cue(session.place.script, due.given.index, self._own_words)
        return Question(session.state, hidden, session.seed, cue)

    def _taken(self, due: _Due, emission: Emission, answer: Answer) -> Taken:
        script = due.session.place.script
        return script.after(due.given.index, emission, answer.passage, self._own_words)

    def _expect_room(self) -> None:
        if len(self._open) >= self.window.sessions:
            raise TooManySessionsError(self.window.sessions)

    def _forget(self, session: NativeSession) -> None:
        if session in self._open:
            self._open.remove(session)
            session.state.close()


def _whole_turns(given: MicroTurnInput) -> Samples:
    """The sound of a step, without samples that are not finite."""
    audio = given.audio
    if audio.ndim != 1 or audio.dtype != np.float32 or not len(audio) or len(audio) % INPUT_SAMPLES:
        raise BadSoundError(
            f"the native model expected sound of (n * {INPUT_SAMPLES},) float32, 16 kHz, n at least 1, got "
            f"{audio.shape!r} of {audio.dtype.name!r}; resample it and give whole micro-turns of 200 ms"
        )
    if len(audio) // INPUT_SAMPLES > given.index + 1:
        raise BadSoundError(
            f"the native model expected at most {given.index + 1} micro-turns of sound up to number {given.index!r}, "
            f"got {len(audio) // INPUT_SAMPLES}; number micro-turns from 0"
        )
    finite = np.isfinite(audio)
    if finite.all():
        return audio
    logger.warning("%d of %d samples are not finite and are heard as silence", np.sum(~finite), len(audio))
    return np.where(finite, audio, np.float32(0))


def _mouth(session: NativeSession, emission: Emission) -> MouthState:
    """Where the mouth is before it is given words."""
    mouth = session.place.mouth
    return mouth.stopped() if emission.hushes else mouth


def _finish(due: _Due, said: _Said) -> MicroTurnOutput:
    """Take in what the mouth did, and put the output together."""
    place, given, emission, taken = due.session.place, due.given, said.emission, said.taken
    line = place.line if due.turns == 1 and not emission.hushes else place.line.paused()
    narration = place.narration.hushed() if emission.hushes else place.narration
    begins = bool(emission.said) and not narration.is_speaking
    is_silent = place.mouth.is_quiet and not taken.words
    audio, lead, line = line.quiet() if is_silent else line.sounding(said.frames.numpy())
    narration = _told(narration, said)
    narration, told = narration.heard(said.ends, lead, len(audio))
    user, understood = place.user.after(
        given.index, emission, given.text, given.question, begins_to_speak=begins
    )
    due.session.place = replace(
        place,
        mouth=said.mouth,
        line=line,
        user=user,
        stopwatches=place.stopwatches.after(given.index, said.answer.tokens),
        script=taken.script,
        narration=narration,
        floor=_floor(
            place.floor, user.has_floor(given.index), bool(told.words) or narration.is_speaking, given
        ),
        faults=place.faults + len(emission.faults),
    )
    floor = replace(due.session.place.floor, user_finished=not user.is_open)
    return MicroTurnOutput(
        index=given.index,
        audio=audio,
        floor=floor,
        actions=understood.actions,
        utterances=told.utterances,
        words=told.words,
        transcripts=understood.transcripts,
        playout="stop" if taken.gives_up or emission.hushes else "play",
    )


def _told(narration: Narration, said: _Said) -> Narration:
    """The account of what the mouth was given."""
    if said.answer.passage.count:
        return narration.reading_out(said.answer.passage)
    return narration.saying(said.taken.words, "reply" if said.emission.said else "backchannel")


def _floor(before: FloorState, user: bool, assistant: bool, given: MicroTurnInput) -> FloorState:
    holder = {
        (False, False): Floor.NOBODY,
        (True, False): Floor.USER,
        (False, True): Floor.ASSISTANT,
        (True, True): Floor.BOTH,
    }[user, assistant]
    return FloorState(holder, before.since_ms if holder is before.holder else given.end_ms)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let PyTorch compute with so many threads for a while; no bit depends on it."""
    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
