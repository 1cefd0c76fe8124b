"""The ears of one session: from sound to what the user is saying, on the beat.

Speech is recognised while it lasts; a turn ends when the judge finds that it sounds finished, not when it is
merely quiet. Knows nothing of what is answered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from microturn.interaction_model.cascade.onnx_session import as_mono
from microturn.interaction_model.cascade.recognition_service import RecognitionService
from microturn.interaction_model.cascade.segmenter import Segmenter, SegmenterState, SpeechActivity
from microturn.interaction_model.cascade.turn_end import (
    TurnEndJudge,
    TurnEvidence,
    TurnSound,
    TurnSoundJob,
    TurnSoundService,
    TurnVerdict,
)
from microturn.interaction_model.cascade.utterance import PartialText, Utterance
from microturn.interaction_model.cascade.vad import SileroVad, VadState
from microturn.protocols import INPUT_RATE_HZ, Samples

MEMORY_SAMPLES = INPUT_RATE_HZ * 6 // 5
"""Sound kept from before a turn, for its soft beginning: 1.2 s, longer than pre-roll and one made-up step."""
NOISE_AFTER_MS = 700
"""A turn in which no word was recognised after this much silence was a noise."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


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
    sound: TurnSound | None = None
    verdict: TurnVerdict | None = None
    """What was judged at the step before, in the same silence."""
    turns: int = 0
    speech_ms: int = 0


class Ears:
    """Loaded models that listen for any number of sessions; the state of each is an `EarState`."""

    def __init__(
        self,
        vad: SileroVad,
        segmenter: Segmenter,
        service: RecognitionService,
        sounds: TurnSoundService,
        judge: TurnEndJudge,
    ) -> None:
        self._vad = vad
        self._segmenter = segmenter
        self._service = service
        self._sounds = sounds
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
        return self._conclude(session_id, state, activity, is_new)

    def forget(self, session_id: str) -> None:
        """Drop the work under way for a session."""
        self._service.forget(session_id)
        self._sounds.forget(session_id)

    def settle(self) -> None:
        """Wait for the work under way."""
        self._service.settle()
        self._sounds.settle()

    def close(self) -> None:
        """End the threads."""
        self._service.close()
        self._sounds.close()

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
            sound=None,
            speech_ms=activity.speech_ms,
        )

    def _read(self, session_id: str, state: EarState) -> tuple[EarState, bool]:
        """Take in what has come back from the threads."""
        partial, sound = self._service.poll(session_id), self._sounds.poll(session_id)
        utterance = state.utterance
        if utterance is None:
            return state, False
        if sound is not None and sound.turn == utterance.turn:
            state = replace(state, sound=sound)
        if partial is None or partial.turn != utterance.turn:
            return state, False
        is_new = state.partial is None or partial.text != state.partial.text
        return replace(state, partial=partial, utterance=utterance.read(partial)), is_new

    def _ask(self, session_id: str, state: EarState, activity: SpeechActivity) -> None:
        """Have the open turn read and its sound judged, always up to now.

        While the user speaks on, an answer that is not back yet is worth more than a newer question. Asking before
        there is silence costs a part of a core, and gains a beat when there is.
        """
        if state.utterance is None:
            return
        if not activity.speaking or not self._service.is_busy(session_id):
            self._service.submit(session_id, state.utterance.job())
        if not activity.speaking or not self._sounds.is_busy(session_id):
            sound = np.concatenate(state.utterance.chunks)
            self._sounds.submit(session_id, TurnSoundJob(state.utterance.turn, state.heard, sound))

    def _evidence(self, state: EarState, speech_end: int) -> TurnEvidence | None:
        """What is known about the present silence; None before anything is."""
        if state.partial is None or state.sound is None:
            return None
        heard_until = min(state.partial.end_sample, state.sound.end_sample)
        age_ms = (heard_until - speech_end) / _SAMPLES_PER_MS
        return TurnEvidence(state.partial.text, state.partial.mean_logprob, state.sound.finished, age_ms)

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
        evidence = self._evidence(state, speech_end)
        complete = evidence is not None and evidence.is_whole
        silence_ms = activity.silence_ms or 0.0
        quiet = not activity.speaking and not activity.may_be_starting and complete
        verdict = self._judge.judge(evidence, state.verdict) if quiet and evidence is not None else None
        state = replace(state, verdict=verdict)
        if text and verdict is not None and silence_ms >= verdict.wait_ms:
            return self._next(session_id, state), Hearing(activity, None, is_new, turn, state.speech_ms, True)
        if quiet and not text and silence_ms >= NOISE_AFTER_MS:
            return self._next(session_id, state), Hearing(activity, None, False, None, state.speech_ms, True)
        return state, Hearing(activity, turn, is_new, None, state.speech_ms, complete)

    def _next(self, session_id: str, state: EarState) -> EarState:
        """Close the turn and be ready for the next."""
        self.forget(session_id)
        return replace(
            state, utterance=None, partial=None, sound=None, verdict=None, turns=state.turns + 1, speech_ms=0
        )
