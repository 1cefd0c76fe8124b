"""Clips on the beat: what the ears know at each 200 ms, and when.

What is computed in one beat is known at the next, as in a live session. Knows nothing of what is decided.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from turn_end_corpus import Clip

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.cascade.segmenter import Segmenter
from microturn.interaction_model.cascade.smart_turn import SmartTurn
from microturn.interaction_model.cascade.turn_end import (
    TurnEndJudge,
    TurnEndWeights,
    TurnEvidence,
    TurnVerdict,
)
from microturn.interaction_model.cascade.vad import SileroVad
from microturn.protocols import INPUT_SAMPLES, MICRO_TURN_MS, Samples
from microturn.weights import locate

MS = 16
"""Samples in a millisecond."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat inside a silence, or just before it, of a clip."""

    clip: str
    source: str
    event: int
    """Number of the silence in the clip; the last one is the end of the turn."""
    is_end: bool
    silence_ms: float
    """Since speech really stopped; negative before that."""
    pause_ms: float
    """How long the silence really is; the end's is endless."""
    heard_silence_ms: float
    """Silence as the segmenter counts it at this beat."""
    speech_age_ms: float
    """By how much the evidence was taken after the last speech heard now; negative when speech came after it."""
    text: str
    """What was recognised in everything up to the beat before."""
    mean_logprob: float
    smart: float
    """What the turn detector made of it."""
    speech_s: float
    """How long the turn is so far."""


class Ears:
    """The loaded parts."""

    def __init__(self) -> None:
        self.vad = SileroVad(locate("silero-vad"))
        self.segmenter = Segmenter()
        self.smart_turn = SmartTurn(locate("smart-turn"))
        self.recognizer = MoonshineRecognizer.shipped()


def beats(clip: Clip, ears: Ears) -> Iterator[Beat]:
    """Yield the beats at which a decision could be taken, with what is known then."""
    silences = [*clip.pauses, (clip.end, clip.audio.size)]
    vad_state, segment_state = ears.vad.start(), ears.segmenter.start()
    start: int | None = None
    known: tuple[int, str, float, float] | None = None
    for end in range(INPUT_SAMPLES, clip.audio.size + 1, INPUT_SAMPLES):
        vad_state, windows = ears.vad.step(vad_state, clip.audio[end - INPUT_SAMPLES : end])
        segment_state, activity = ears.segmenter.step(segment_state, windows, end)
        start = activity.segment_start if start is None else start
        event = _event(silences, end)
        if (
            event is not None
            and known is not None
            and activity.last_speech_end is not None
            and start is not None
        ):
            begin, stop = silences[event]
            is_end = event == len(silences) - 1
            evidence_end, text, logprob, smart = known
            yield Beat(
                clip=clip.name,
                source=clip.source,
                event=event,
                is_end=is_end,
                silence_ms=(end - begin) / MS,
                pause_ms=1e9 if is_end else (stop - begin) / MS,
                heard_silence_ms=activity.silence_ms or 0.0,
                speech_age_ms=(evidence_end - activity.last_speech_end) / MS,
                text=text,
                mean_logprob=logprob,
                smart=smart,
                speech_s=(activity.last_speech_end - start) / MS / 1000,
            )
        known = None
        if start is not None and _event(silences, end + INPUT_SAMPLES) is not None:
            known = (end, *_judged(clip.audio[start:end], ears))


def _event(silences: list[tuple[int, int]], end: int) -> int | None:
    """Return which silence a beat's end lies in, up to 0.8 s after it began."""
    for number, (begin, stop) in enumerate(silences):
        if begin < end <= min(stop, begin + 800 * MS):
            return number
    return None


def _judged(audio: Samples, ears: Ears) -> tuple[str, float, float]:
    heard = ears.recognizer.transcribe(audio[-9 * 16_000 :])
    return heard.text, heard.mean_logprob, ears.smart_turn.finished(audio)


def write_beats(clips: Iterable[Clip], path: Path) -> None:
    """Replay clips and keep what was seen, one JSON object a line."""
    ears = Ears()
    with path.open("w", encoding="utf-8") as file:
        for clip in clips:
            for beat in beats(clip, ears):
                file.write(json.dumps(asdict(beat)) + "\n")


def read_beats(path: Path) -> list[Beat]:
    """Read what `write_beats` wrote."""
    return [Beat(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a judge did in one silence."""

    source: str
    is_end: bool
    decided: bool
    """Whether it took the speaker for finished; in a pause, that cuts them off."""
    delay_ms: float
    """From the true end of speech to the decision."""


def evidence_of(beat: Beat) -> TurnEvidence:
    """Return what the judge is shown at a beat."""
    return TurnEvidence(beat.text, beat.mean_logprob, beat.smart, beat.speech_age_ms)


def verdicts(beats: list[Beat], judge: TurnEndJudge) -> list[list[tuple[Beat, float]]]:
    """Return, for every silence, the beats that have whole evidence and how likely the judge thinks it the end."""
    silences: list[list[tuple[Beat, float]]] = []
    for _, group in itertools.groupby(beats, lambda beat: (beat.clip, beat.event)):
        verdict: TurnVerdict | None = None
        seen: list[tuple[Beat, float]] = []
        for beat in group:
            evidence = evidence_of(beat)
            if evidence.is_whole:
                verdict = judge.judge(evidence, verdict)
                seen.append((beat, verdict.finished))
        if seen:
            silences.append(seen)
    return silences


def outcomes(silences: list[list[tuple[Beat, float]]], weights: TurnEndWeights) -> list[Outcome]:
    """Return what follows in every silence from the waits. One longer than the beats recorded keeps the last verdict."""
    found: list[Outcome] = []
    for seen in silences:
        last, finished = seen[-1]
        delay = next(
            (b.silence_ms for b, chance in seen if b.heard_silence_ms >= weights.wait_ms(chance)), None
        )
        if delay is None:
            missing = weights.wait_ms(finished) - last.heard_silence_ms
            delay = last.silence_ms + max(1, -(-missing // MICRO_TURN_MS)) * MICRO_TURN_MS
        found.append(Outcome(last.source, last.is_end, delay <= last.pause_ms, delay))
    return found
