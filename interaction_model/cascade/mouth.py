"""The mouth: a queue of lines that are said one after another, in slices of a micro-turn.

It keeps the account of which word ends in which slice, and lets an urgent line in between two words. Knows nothing
of why something is said, nor of the user.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from microturn.protocols import (
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_RATE_HZ,
    SILENCE,
    Samples,
    SpokenWord,
    Utterance,
)

GAP_SAMPLES = OUTPUT_RATE_HZ * 150 // 1000
"""Silence between two lines that follow on each other: 150 ms, about a pause between sentences. Our choice."""


class WordEnds(Protocol):
    """A word's place in a rendering."""

    @property
    def end_sample(self) -> int:
        """Where its last sound ends."""


class Rendered(Protocol):
    """A spoken text: what `Voice.render` returns."""

    @property
    def audio(self) -> Samples:
        """Sound at 24 kHz, shape `(S,)`."""

    @property
    def words(self) -> tuple[WordEnds, ...]:
        """One entry for each of `text.split()`, in order."""


class Speaks(Protocol):
    """Turns text into sound."""

    def render(self, text: str) -> Rendered:
        """Return the spoken text."""


@dataclass(slots=True)
class _Line:
    utterance: Utterance
    audio: Samples
    ends: tuple[int, ...]
    """Sample at which each word ends; grows with the index."""
    position: int = 0
    next_word: int = 0
    stop_at: int = 0
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """What is said in one micro-turn."""

    audio: Samples = field(default_factory=lambda: SILENCE)
    utterances: tuple[Utterance, ...] = ()
    words: tuple[SpokenWord, ...] = ()


class Mouth:
    """Says lines in order. State of one session; owned by the model's thread."""

    def __init__(self, voice: Speaks) -> None:
        self._voice = voice
        self._lines: deque[_Line] = deque()
        self._names = itertools.count()
        self._has_lead = False

    @property
    def is_speaking(self) -> bool:
        """Whether anything is left to say."""
        return bool(self._lines)

    def say(
        self,
        text: str,
        source: Literal["reply", "filler", "woven"],
        *,
        item_id: str | None = None,
        urgent: bool = False,
    ) -> Utterance:
        """Queue a line; an urgent one goes before all others, after the word that is being said."""
        rendered = self._voice.render(text)
        utterance = Utterance(f"utterance-{next(self._names)}", text, source, item_id)
        audio = np.concatenate([rendered.audio, np.zeros(GAP_SAMPLES, np.float32)])
        ends = tuple(word.end_sample for word in rendered.words)
        line = _Line(utterance, audio, ends, stop_at=len(audio))
        if urgent:
            self._let_in(line)
        else:
            self._lines.append(line)
        return utterance

    def clear(self) -> None:
        """Forget all that has not been said."""
        self._lines.clear()
        self._has_lead = False

    def speak(self, samples: int) -> Slice:
        """Say the next `samples` samples, a little more where speech begins; see `OUTPUT_LEAD_SAMPLES`."""
        if not self._lines:
            self._has_lead = False
            return Slice()
        left = samples if self._has_lead else samples + OUTPUT_LEAD_SAMPLES
        self._has_lead = True
        parts: list[Samples] = []
        utterances: list[Utterance] = []
        words: list[SpokenWord] = []
        said = 0
        while left > 0 and self._lines:
            line = self._lines[0]
            if not line.announced:
                line.announced = True
                utterances.append(_starting_at(line.utterance, said))
            part = line.audio[line.position : min(line.stop_at, line.position + left)]
            line.position += len(part)
            words.extend(_words_in(line, said - line.position + len(part)))
            parts.append(part)
            said += len(part)
            left -= len(part)
            if line.position >= line.stop_at:
                self._lines.popleft()
        return Slice(np.concatenate(parts), tuple(utterances), tuple(words))

    def _let_in(self, line: _Line) -> None:
        """Put a line before all others; one that is under way is split at the end of its current word."""
        if not self._lines or not self._lines[0].announced:
            self._lines.appendleft(line)
            return
        current = self._lines.popleft()
        cut = next((end for end in current.ends if end >= current.position), current.stop_at)
        words_before = sum(end <= cut for end in current.ends)
        rest = _Line(
            current.utterance,
            current.audio,
            current.ends,
            position=cut,
            next_word=words_before,
            stop_at=current.stop_at,
            announced=True,
        )
        current.stop_at = cut
        self._lines.extendleft([rest, line, current])


def _starting_at(utterance: Utterance, sample: int) -> Utterance:
    return Utterance(
        utterance.utterance_id, utterance.text, utterance.source, utterance.item_id, start_sample=sample
    )


def _words_in(line: _Line, offset: int) -> list[SpokenWord]:
    """The words that end at or before the line's position; `offset` takes its samples to the slice's."""
    words = []
    while line.next_word < len(line.ends) and line.ends[line.next_word] <= line.position:
        index = line.next_word
        words.append(
            SpokenWord(
                line.utterance.utterance_id,
                index,
                max(0, line.ends[index] + offset),
                last=index == len(line.ends) - 1,
            )
        )
        line.next_word += 1
    return words
