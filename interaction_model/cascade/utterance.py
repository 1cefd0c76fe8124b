"""The sound of one user's turn while it is open, and what of it has been turned into words for good.

A recogniser without a stream of its own reads the whole open sound again for each partial. So that a long turn
stays cheap, whatever lies before a pause is read once more and then dropped with its text kept. The longest sound
ever read at once, and the memory held, are bounded whatever the user does.

A value: every method returns a new one, so a snapshot of it costs nothing. Knows nothing of threads and models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from microturn.interaction_model.cascade.onnx_session import as_mono
from microturn.interaction_model.cascade.segmenter import Gap
from microturn.protocols import INPUT_RATE_HZ, Samples

COMMIT_AFTER_SAMPLES = 8 * INPUT_RATE_HZ
"""Open sound longer than this is cut at its last pause."""
LONGEST_SAMPLES = 12 * INPUT_RATE_HZ
"""Open sound longer than this is cut where it is quietest, pause or not."""
SHORTEST_PIECE_SAMPLES = 3 * INPUT_RATE_HZ
"""A piece cut off at a pause is at least this long: shorter ones are recognised badly."""
MOST_SAMPLES = 30 * INPUT_RATE_HZ
"""Most sound held. Beyond it, with a recogniser that does not keep up, the oldest is lost."""
MOST_TEXT = 20_000
"""Most characters of committed text held; beyond it the oldest words are let go."""
_QUIET_SAMPLES = INPUT_RATE_HZ * 60 // 1000


@dataclass(frozen=True, slots=True)
class RecognitionJob:
    """What a recogniser is asked to read: one sound, cut into pieces that are read one by one."""

    turn: int
    start_sample: int
    """Position of the first sample of the first piece."""
    pieces: tuple[Samples, ...]
    """The last one is the open end; the ones before it are to be committed."""
    committed: str
    """Text of the turn before `start_sample`."""

    @property
    def end_sample(self) -> int:
        """Position one past the last sample."""
        return self.start_sample + sum(piece.size for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class PartialText:
    """What came of a job."""

    turn: int
    text: str
    """The turn's whole text so far, committed and open."""
    open_text: str
    """The part of it that may still change."""
    committed: str
    committed_until: int
    """Position up to which the text is final and the sound can be dropped."""
    end_sample: int
    """Position up to which the turn was heard."""
    mean_logprob: float
    """Mean log-probability of the open part's tokens."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One turn's open sound."""

    turn: int
    start_sample: int
    """Position of the first sample of `chunks`."""
    chunks: tuple[Samples, ...] = ()
    committed: str = ""
    gaps: tuple[Gap, ...] = ()
    """Pauses inside the open sound."""
    lost_samples: int = 0
    """Sound dropped unread because the recogniser did not keep up."""

    @property
    def end_sample(self) -> int:
        """Position one past the last sample."""
        return self.start_sample + sum(chunk.size for chunk in self.chunks)

    def heard(self, audio: Samples, gaps: tuple[Gap, ...] = ()) -> Utterance:
        """Return the utterance with more sound, and the pauses that the segmenter found to have ended."""
        grown = replace(self, chunks=(*self.chunks, as_mono(audio).copy()), gaps=(*self.gaps, *gaps))
        excess = grown.end_sample - grown.start_sample - MOST_SAMPLES
        if excess <= 0:
            return grown
        return replace(grown._from(grown.start_sample + excess), lost_samples=self.lost_samples + excess)

    def job(self, until: int | None = None) -> RecognitionJob:
        """Return what to read now, up to the position `until` (all of it by default)."""
        sound = np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.float32)
        if until is not None:
            sound = sound[: max(until - self.start_sample, 0)]
        pieces: list[Samples] = []
        begin = 0
        while (cut := self._cut(sound, begin)) is not None:
            pieces.append(sound[begin:cut])
            begin = cut
        return RecognitionJob(self.turn, self.start_sample, (*pieces, sound[begin:]), self.committed)

    def read(self, partial: PartialText) -> Utterance:
        """Return the utterance without the sound that a partial of the same turn has committed."""
        if partial.turn != self.turn or partial.committed_until <= self.start_sample:
            return self
        return replace(self._from(partial.committed_until), committed=partial.committed)

    def _from(self, position: int) -> Utterance:
        """Drop the sound before a position."""
        sound = np.concatenate(self.chunks)[position - self.start_sample :]
        gaps = tuple(gap for gap in self.gaps if gap.start_sample > position)
        return replace(self, start_sample=position, chunks=(sound,), gaps=gaps)

    def _cut(self, sound: Samples, begin: int) -> int | None:
        """Return where to end the piece that begins at `begin`, or None when the rest can stay open."""
        length = sound.size - begin
        if length <= COMMIT_AFTER_SAMPLES:
            return None
        offset = self.start_sample
        middles = ((gap.start_sample + gap.end_sample) // 2 - offset for gap in self.gaps)
        fitting = [
            at
            for at in middles
            if SHORTEST_PIECE_SAMPLES <= at - begin <= LONGEST_SAMPLES and at < sound.size
        ]
        if fitting:
            return max(fitting)
        if length <= LONGEST_SAMPLES:
            return None
        return begin + _quietest(sound[begin : begin + LONGEST_SAMPLES])


def _quietest(sound: Samples) -> int:
    """Return the middle of the quietest 60 ms in the last third of `sound`."""
    first = sound.size * 2 // 3
    power = np.cumsum(np.square(sound[first:], dtype=np.float64))
    energy = power[_QUIET_SAMPLES:] - power[:-_QUIET_SAMPLES]
    return first + int(np.argmin(energy)) + _QUIET_SAMPLES // 2


def join_text(before: str, after: str) -> str:
    """Return two pieces of one turn as one text, bounded to `MOST_TEXT` characters by dropping the oldest words."""
    text = f"{before} {after}".strip()
    if len(text) <= MOST_TEXT:
        return text
    return text[-MOST_TEXT:].partition(" ")[2]
