"""The way of speech from the model to the listener, and the account of how much of it was heard.

Silence is never queued, so what the model says in a step is heard as soon as the step is done. A word counts as
heard when the sample that ends it has been given to the device. Knows nothing of where the sound goes.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from microturn.protocols import OUTPUT_RATE_HZ, SILENCE, MicroTurnOutput, Samples, Utterance, WordsHeard

FADE_SAMPLES = 240
"""Length of the fade when speech is cut off: 10 ms, enough for no click to be heard."""


@dataclass(slots=True)
class _Played:
    utterance: Utterance
    start: int
    """Queue position of its first sample."""
    words: int = 0
    finished: bool = False
    reported: int = -1


@dataclass(frozen=True, slots=True)
class Began:
    """An utterance whose first sample was played."""

    utterance: Utterance
    sample: int
    """Output sample of the session, silence counted."""


class Playout:
    """Queue of speech with its words. All positions in it count queued speech only; `clock_samples` counts all.

    Bounded by its use: the model is never more than a micro-turn and the lead ahead of the beat, so nothing is
    dropped here but by `stop`. Safe to play from a device's thread while the beat pushes.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._chunks: deque[Samples] = deque()
        self._words: deque[tuple[int, str, int, bool]] = deque()
        self._active: dict[str, _Played] = {}
        self._begun: list[Began] = []
        self._queued = 0
        self._consumed = 0
        self._held = False
        self._tail: Samples = SILENCE
        self.clock_samples = 0
        """Samples played since the session began, silence counted: the listener's time."""

    @property
    def backlog_samples(self) -> int:
        """Speech that was sent and not yet played."""
        return self._queued - self._consumed

    def push(self, output: MicroTurnOutput) -> None:
        """Queue what a step said."""
        with self._lock:
            for utterance in output.utterances:
                self._active[utterance.utterance_id] = _Played(
                    utterance, self._queued + utterance.start_sample
                )
            for word in output.words:
                self._words.append((self._queued + word.end_sample, word.utterance_id, word.index, word.last))
            if len(output.audio):
                self._chunks.append(output.audio)
                self._queued += len(output.audio)

    def play(self, samples: int) -> Samples:
        """Return exactly `samples` samples for the device; silence where there is no speech."""
        with self._lock:
            first = self._consumed
            tail, self._tail = self._tail[:samples], self._tail[samples:]
            wanted = 0 if self._held else samples - len(tail)
            speech = self._pull(wanted)
            out = np.zeros(samples, np.float32)
            out[: len(tail)] = tail
            out[len(tail) : len(tail) + len(speech)] = speech
            self._note_begun(first)
            self._note_words()
            self.clock_samples += samples
            return out

    def hold(self) -> None:
        """Fall silent within a short fade and keep what has not been played."""
        with self._lock:
            if not self._held:
                self._held = True
                fading = self._pull(FADE_SAMPLES)
                self._tail = fading * np.linspace(1.0, 0.0, len(fading), dtype=np.float32)

    def resume(self) -> None:
        """Go on after a hold, at the sample where it fell silent."""
        with self._lock:
            self._held = False

    def stop(self) -> None:
        """Discard what has not been played, all but a short fade. Every utterance under way ends here."""
        with self._lock:
            self.hold()
            self._note_words()
            self._chunks.clear()
            self._words.clear()
            self._queued = self._consumed
            self._held = False
            for played in self._active.values():
                played.finished = True

    def _pull(self, samples: int) -> Samples:
        """Take up to `samples` samples of speech off the queue."""
        parts: list[Samples] = []
        while samples > 0 and self._chunks:
            chunk = self._chunks.popleft()
            parts.append(chunk[:samples])
            if len(chunk) > samples:
                self._chunks.appendleft(chunk[samples:])
            samples -= len(parts[-1])
        out = np.concatenate(parts) if parts else SILENCE
        self._consumed += len(out)
        return out

    def take_begun(self) -> list[Began]:
        """Return the utterances that began to be heard since the last call."""
        with self._lock:
            begun, self._begun = self._begun, []
            return begun

    def take_heard(self) -> tuple[WordsHeard, ...]:
        """Return what has changed since the last call; finished utterances are reported once, then forgotten."""
        with self._lock:
            reports = []
            for utterance_id, played in list(self._active.items()):
                if played.words != played.reported or played.finished:
                    played.reported = played.words
                    reports.append(WordsHeard(utterance_id, played.words, played.finished))
                if played.finished:
                    del self._active[utterance_id]
            return tuple(reports)

    def _note_begun(self, first: int) -> None:
        for played in self._active.values():
            if first <= played.start < self._consumed:
                self._begun.append(Began(played.utterance, self.clock_samples + played.start - first))

    def _note_words(self) -> None:
        while self._words and self._words[0][0] <= self._consumed:
            _, utterance_id, index, last = self._words.popleft()
            played = self._active.get(utterance_id)
            if played is not None:
                played.words = max(played.words, index + 1)
                played.finished = played.finished or last


def samples_to_ms(samples: int) -> float:
    """Convert output samples to milliseconds."""
    return samples * 1000 / OUTPUT_RATE_HZ
