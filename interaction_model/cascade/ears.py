"""The ears of one session: from sound to what the user is saying, on the beat.

Speech is recognised while it lasts; a turn ends when the judge finds that it sounds finished, not when it is
merely quiet. Knows nothing of what is answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from microturn.interaction_model.cascade.onnx_session import as_mono
from microturn.interaction_model.cascade.recognition_service import RecognitionService
from microturn.interaction_model.cascade.segmenter import Segmenter, SegmenterState, SpeechActivity
from microturn.interaction_model.cascade.utterance import PartialText, Utterance
from microturn.interaction_model.cascade.vad import SileroVad, VadState
from microturn.protocols import INPUT_RATE_HZ, Samples

MEMORY_SAMPLES = INPUT_RATE_HZ * 6 // 5
"""Sound kept from before a turn, for its soft beginning: 1.2 s, longer than pre-roll and one made-up step."""
TAIL_SAMPLES = INPUT_RATE_HZ // 10
"""Sound after the last speech that the final recognition still reads: 100 ms, for soft endings."""
NOISE_AFTER_MS = 700
"""A turn in which no word was recognised after this much silence was a noise."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


class TurnJudge(Protocol):
    """Judges whether a turn is over."""

    def listen(self, session_id: str, sound: Samples, silence_ms: float) -> None:
        """Take the sound of a turn as it is at the first sign of silence, 16 kHz, shape `(S,)`. Does not block."""

    def is_over(self, session_id: str, text: str, silence_ms: float) -> bool:
        """Whether the user has finished, given the words so far and how long it has been silent."""

    def forget(self, session_id: str) -> None:
        """Drop what is under way for a session."""

    def settle(self) -> None:
        """Wait for work that was begun."""

    def close(self) -> None:
        """End its threads."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user said in one turn."""

    number: int
    text: str
    start_ms: int
    end_ms: int
    """Where the speech ended, not where that was noticed."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What one step brought."""

    activity: SpeechActivity
    open_turn: Turn | None
    """The turn under way with the text so far; None when the user has nothing unfinished to say."""
    text_is_new: bool
    ended: Turn | None
    """A turn that ended in this step."""
    speech_ms: int
    """Speech in the open turn so far."""
    text_is_complete: bool
    """Whether the text covers all of the speech."""


@dataclass(frozen=True, slots=True)
class EarState:
    """Where one session stands; a value, replaced at every step."""

    vad: VadState
    segmenter: SegmenterState
    memory: Samples
    """The newest sound, shape `(<= MEMORY_SAMPLES,)`."""
    heard: int = 0
    """Samples heard so far."""
    utterance: Utterance | None = None
    start_sample: int = 0
    partial: PartialText | None = None
    asked_until: int = 0
    """Position up to which recognition was asked for."""
    judged_from: int = -1
    """End of the speech for which the judge was given the sound."""
    turns: int = 0
    speech_ms: int = 0


class Ears:
    """Loaded models that listen for any number of sessions; the state of each is an `EarState`."""

    def __init__(
        self, vad: SileroVad, segmenter: Segmenter, service: RecognitionService, judge: TurnJudge
    ) -> None:
        self._vad = vad
        self._segmenter = segmenter
        self._service = service
        self._judge = judge

    def start(self) -> EarState:
        """Return the state of a session that has heard nothing."""
        return EarState(self._vad.start(), self._segmenter.start(), np.zeros(0, np.float32))

    def step(self, session_id: str, state: EarState, audio: Samples) -> tuple[EarState, Hearing]:
        """Take in what was heard since the last step, 16 kHz, shape `(S,)`. About 2 ms."""
        sound = as_mono(audio)
        vad, windows = self._vad.step(state.vad, sound)
        heard = state.heard + len(sound)
        segmenter, activity = self._segmenter.step(state.segmenter, windows, heard)
        memory = np.concatenate([state.memory, sound])[-MEMORY_SAMPLES:]
        state = replace(state, vad=vad, segmenter=segmenter, memory=memory, heard=heard)
        state = self._follow(state, activity, sound)
        state, is_new = self._read(session_id, state)
        self._ask(session_id, state, activity)
        state = self._asked(state, activity)
        state = self._consult(session_id, state, activity)
        return self._conclude(session_id, state, activity, is_new)

    def forget(self, session_id: str) -> None:
        """Drop the work under way for a session."""
        self._service.forget(session_id)
        self._judge.forget(session_id)

    def settle(self) -> None:
        """Wait for the work under way."""
        self._service.settle()
        self._judge.settle()

    def close(self) -> None:
        """End the threads."""
        self._service.close()
        self._judge.close()

    def _follow(self, state: EarState, activity: SpeechActivity, sound: Samples) -> EarState:
        """Begin a turn where speech begins, and keep its sound."""
        if state.utterance is not None:
            utterance = state.utterance.heard(sound, activity.gaps)
            return replace(state, utterance=utterance, speech_ms=state.speech_ms + activity.speech_ms)
        if not (activity.started or activity.speaking) or activity.segment_start is None:
            return state
        start = max(activity.segment_start, state.heard - len(state.memory))
        utterance = Utterance(state.turns, start).heard(state.memory[start - state.heard :])
        return replace(
            state,
            utterance=utterance,
            start_sample=start,
            partial=None,
            asked_until=0,
            speech_ms=activity.speech_ms,
        )

    def _read(self, session_id: str, state: EarState) -> tuple[EarState, bool]:
        """Take in a recognition that has come back."""
        partial = self._service.poll(session_id)
        if partial is None or state.utterance is None or partial.turn != state.utterance.turn:
            return state, False
        is_new = state.partial is None or partial.text != state.partial.text
        return replace(state, partial=partial, utterance=state.utterance.read(partial)), is_new

    def _wanted(self, state: EarState, activity: SpeechActivity) -> int | None:
        """Up to where recognition should be asked for now; None where it has been."""
        speech_end = activity.last_speech_end
        if state.utterance is None or speech_end is None:
            return None
        if activity.speaking:
            return state.heard
        return min(state.heard, speech_end + TAIL_SAMPLES) if state.asked_until < speech_end else None

    def _ask(self, session_id: str, state: EarState, activity: SpeechActivity) -> None:
        until = self._wanted(state, activity)
        if until is None or state.utterance is None:
            return
        # While the user speaks on, a partial that is not back yet is worth more than a newer one that waits.
        if not activity.speaking or not self._service.is_busy(session_id):
            self._service.submit(session_id, state.utterance.job(until))

    def _asked(self, state: EarState, activity: SpeechActivity) -> EarState:
        until = self._wanted(state, activity)
        return state if until is None or activity.speaking else replace(state, asked_until=until)

    def _consult(self, session_id: str, state: EarState, activity: SpeechActivity) -> EarState:
        """Give the judge the sound once per silence, early, so that its answer is there at the next beat."""
        speech_end = activity.last_speech_end
        if (
            state.utterance is None
            or activity.speaking
            or speech_end is None
            or state.judged_from == speech_end
        ):
            return state
        sound = np.concatenate(state.utterance.chunks) if state.utterance.chunks else state.memory
        self._judge.listen(session_id, sound, activity.silence_ms or 0.0)
        return replace(state, judged_from=speech_end)

    def _conclude(
        self, session_id: str, state: EarState, activity: SpeechActivity, is_new: bool
    ) -> tuple[EarState, Hearing]:
        """Decide whether the turn is over."""
        if state.utterance is None:
            return state, Hearing(activity, None, False, None, 0, True)
        text = state.partial.text if state.partial is not None else ""
        speech_end = activity.last_speech_end or state.heard
        turn = Turn(
            state.utterance.turn, text, state.start_sample // _SAMPLES_PER_MS, speech_end // _SAMPLES_PER_MS
        )
        complete = state.partial is not None and state.partial.end_sample >= speech_end
        silence_ms = activity.silence_ms or 0.0
        quiet = not activity.speaking and not activity.may_be_starting and complete
        if quiet and text and self._judge.is_over(session_id, text, silence_ms):
            return self._next(session_id, state), Hearing(activity, None, is_new, turn, state.speech_ms, True)
        if quiet and not text and silence_ms >= NOISE_AFTER_MS:
            return self._next(session_id, state), Hearing(activity, None, False, None, state.speech_ms, True)
        return state, Hearing(activity, turn, is_new, None, state.speech_ms, complete)

    def _next(self, session_id: str, state: EarState) -> EarState:
        """Close the turn and be ready for the next."""
        self.forget(session_id)
        return replace(state, utterance=None, partial=None, turns=state.turns + 1, speech_ms=0)
