"""From speech probabilities to stretches of speech and silence, in sample positions.

Pure arithmetic on one stream; its state is a value that goes in and comes out. Knows nothing of models and words.
A sound shorter than `onset_ms` (a click, a cough's edge) neither begins speech nor ends a silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from microturn.interaction_model.cascade.vad import WINDOW_SAMPLES, VadWindow
from microturn.protocols import INPUT_RATE_HZ

_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """Thresholds of the segmenter. Not stated in any source; chosen on voices of the development set."""

    on_probability: float = 0.5
    """From silence, a window at or above it may begin speech."""
    off_probability: float = 0.35
    """In speech, a window below it is silence; between the two, what was goes on."""
    onset_ms: int = 96
    """Speech must last this long before it counts, from silence of at least `join_ms`."""
    resume_ms: int = 64
    """The same after a shorter silence, inside a segment."""
    join_ms: int = 250
    """A silence shorter than this does not end a segment."""
    pre_roll_ms: int = 200
    """A segment is said to start this much earlier, so that soft beginnings are not lost to recognition."""


@dataclass(frozen=True, slots=True)
class SegmenterState:
    """Where one stream stands; all positions are samples of the stream."""

    segment_start: int | None = None
    """Where the open segment's first speech began, without pre-roll; None between segments."""
    last_speech_end: int | None = None
    """End of the last confirmed speech; None before the first."""
    candidate_start: int | None = None
    """Start of speech that has not lasted long enough to count."""
    previous_segment_end: int = 0
    """Where the segment before the open one ended: a pre-roll does not reach over it."""
    in_speech: bool = False
    heard_until: int = 0
    """End of the last window seen."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A silence between two stretches of speech of one segment."""

    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class SpeechActivity:
    """What the segmenter says about the windows of one step."""

    speech_ms: int
    """Speech confirmed in this step; speech that had to last before it counted is counted late, never twice."""
    speaking: bool
    """Whether confirmed speech reaches to the last window."""
    silence_ms: float | None
    """Time since the last confirmed speech ended, 0 while speaking, None before any speech.

    Counted to the end of the audio given to `step`, so it includes samples that no window covers yet.
    """
    segment_start: int | None
    """First sample of the open segment with its pre-roll; None between segments."""
    last_speech_end: int | None
    """Position one past the last confirmed speech."""
    started: bool
    """Whether a segment began in this step."""
    ended: bool
    """Whether a segment ended in this step: its silence reached `join_ms`."""
    gaps: tuple[Gap, ...]
    """Silences inside the segment that were closed by new speech in this step."""
    may_be_starting: bool
    """Whether unconfirmed speech reaches to the last window."""


@dataclass(slots=True)
class _Step:
    """What one step has found so far."""

    state: SegmenterState
    speech_samples: int = 0
    started: bool = False
    ended: bool = False
    gaps: tuple[Gap, ...] = ()


class Segmenter:
    """Turns windows of one or more streams into activity."""

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self.config = config or SegmenterConfig()

    def start(self, position: int = 0) -> SegmenterState:
        """Return the state of a stream whose first sample has the given position."""
        return SegmenterState(heard_until=position, previous_segment_end=position)

    def step(
        self, state: SegmenterState, windows: Sequence[VadWindow], end_sample: int
    ) -> tuple[SegmenterState, SpeechActivity]:
        """Take in the windows that one step completed; `end_sample` is the end of its audio."""
        found = _Step(state)
        for window in windows:
            self._take(found, window)
        return found.state, self._activity(found, end_sample)

    def _take(self, found: _Step, window: VadWindow) -> None:
        state = found.state
        continues = state.in_speech or state.candidate_start is not None
        threshold = self.config.off_probability if continues else self.config.on_probability
        if window.probability >= threshold:
            self._voiced(found, window)
        else:
            self._silent(found, window)
        found.state = replace(found.state, heard_until=window.end_sample)

    def _voiced(self, found: _Step, window: VadWindow) -> None:
        state = found.state
        if state.in_speech:
            found.speech_samples += WINDOW_SAMPLES
            found.state = replace(state, last_speech_end=window.end_sample)
            return
        begin = window.start_sample if state.candidate_start is None else state.candidate_start
        needed_ms = self.config.onset_ms if state.segment_start is None else self.config.resume_ms
        if window.end_sample - begin < needed_ms * _SAMPLES_PER_MS:
            found.state = replace(state, candidate_start=begin)
            return
        found.speech_samples += window.end_sample - begin
        if state.segment_start is None:
            found.started = True
            segment_start = begin
        else:
            segment_start = state.segment_start
            assert state.last_speech_end is not None
            found.gaps = (*found.gaps, Gap(state.last_speech_end, begin))
        found.state = replace(
            state,
            segment_start=segment_start,
            last_speech_end=window.end_sample,
            candidate_start=None,
            in_speech=True,
        )

    def _silent(self, found: _Step, window: VadWindow) -> None:
        found.state = state = replace(found.state, in_speech=False, candidate_start=None)
        if state.segment_start is None or state.last_speech_end is None:
            return
        if window.end_sample - state.last_speech_end >= self.config.join_ms * _SAMPLES_PER_MS:
            found.ended = True
            found.state = replace(state, segment_start=None, previous_segment_end=state.last_speech_end)

    def _activity(self, found: _Step, end_sample: int) -> SpeechActivity:
        state = found.state
        silence_ms: float | None = None
        if state.last_speech_end is not None:
            silence = 0 if state.in_speech else end_sample - state.last_speech_end
            silence_ms = silence / _SAMPLES_PER_MS
        start = state.segment_start
        if start is not None:
            start = max(start - self.config.pre_roll_ms * _SAMPLES_PER_MS, state.previous_segment_end, 0)
        return SpeechActivity(
            speech_ms=round(found.speech_samples / _SAMPLES_PER_MS),
            speaking=state.in_speech,
            silence_ms=silence_ms,
            segment_start=start,
            last_speech_end=state.last_speech_end,
            started=found.started,
            ended=found.ended,
            gaps=found.gaps,
            may_be_starting=state.candidate_start is not None,
        )
