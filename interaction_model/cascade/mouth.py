"""The mouth: a queue of lines that are said one after another, in slices of a micro-turn.

It keeps the account of which word ends in which slice, and lets an urgent line in between two words. Knows nothing
of why something is said, nor of the user.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from microturn.protocols import (
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_RATE_HZ,
    SILENCE,
    Samples,
    SpokenWord,
    Utterance,
    UtteranceSource,
)

GAP_SAMPLES = OUTPUT_RATE_HZ * 150 // 1000
"""Silence between two lines that follow on each other: 150 ms, about a pause between sentences. Our choice."""


class WordEnds(Protocol):
    """A word's place in a rendering."""

    @property
    def end_sample(self) -> int:
        """Where its last sound ends."""


class Rendered(Protocol):
    """A spoken sentence."""

    @property
    def audio(self) -> Samples:
        """Sound at 24 kHz, shape `(S,)`."""

    @property
    def words(self) -> Sequence[WordEnds]:
        """One entry for each of `text.split()`, in order."""


class Speaks(Protocol):
    """Turns text into sound; `voice.Voice` is one."""

    def sentences(self, text: str) -> Sequence[str]:
        """Split a text into what is rendered at once; their words together are `text.split()`."""

    def render(self, text: str) -> Rendered:
        """Return a spoken sentence. Blocks for some tens of milliseconds."""


@dataclass(slots=True)
class _Line:
    """A text on its way out. Sentences are rendered when they are needed, so that a long text costs no beat."""

    utterance: Utterance
    sentences: deque[str]
    audio: Samples = field(default_factory=lambda: SILENCE)
    """What was rendered and not said yet begins at `position`."""
    position: int = 0
    ends: list[int] = field(default_factory=list)
    """Sample of `audio` at which each word so far ends; grows with the index."""
    next_word: int = 0
    has_begun: bool = False

    def render(self, voice: Speaks, samples: int) -> None:
        """Have at least `samples` samples ready, or all that is left."""
        while self.sentences and len(self.audio) - self.position < samples:
            rendered = voice.render(self.sentences.popleft())
            self.ends.extend(len(self.audio) + word.end_sample for word in rendered.words)
            gap = () if self.sentences else (np.zeros(GAP_SAMPLES, np.float32),)
            self.audio = np.concatenate([self.audio, rendered.audio, *gap])

    def word_boundary(self) -> int:
        """The next place at which no word is cut."""
        return next((end for end in self.ends[self.next_word :] if end >= self.position), len(self.audio))

    @property
    def is_between_words(self) -> bool:
        """Whether another line can be let in here."""
        return not self.has_begun or self.position in self.ends[max(0, self.next_word - 1) : self.next_word]

    @property
    def is_done(self) -> bool:
        """Whether all of it was said."""
        return not self.sentences and self.position >= len(self.audio)


@dataclass(frozen=True, slots=True)
class Slice:
    """What is said in one micro-turn."""

    audio: Samples = field(default_factory=lambda: SILENCE)
    utterances: tuple[Utterance, ...] = ()
    words: tuple[SpokenWord, ...] = ()


class Mouth:
    """Says lines in order. State of one session; one thread at a time."""

    def __init__(self, voice: Speaks) -> None:
        self._voice = voice
        self._lines: deque[_Line] = deque()
        self._urgent: deque[_Line] = deque()
        self._names = 0
        self._has_lead = False

    @property
    def is_speaking(self) -> bool:
        """Whether anything is left to say."""
        return bool(self._lines or self._urgent)

    @property
    def current(self) -> Utterance | None:
        """What is being said, or else comes next."""
        lines = self._whose_turn()
        return lines[0].utterance if lines else None

    def say(
        self,
        text: str,
        source: UtteranceSource,
        *,
        item_id: str | None = None,
        urgent: bool = False,
    ) -> None:
        """Queue a text; an urgent one goes before all others, after the word that is being said.

        A text without words is nothing to say and is ignored.
        """
        if not text.split():
            return
        utterance = Utterance(f"utterance-{self._names}", text, source, item_id)
        self._names += 1
        line = _Line(utterance, deque(self._voice.sentences(text)))
        (self._urgent if urgent else self._lines).append(line)

    def clear(self) -> None:
        """Forget all that has not been said."""
        self._lines.clear()
        self._urgent.clear()
        self._has_lead = False

    def pause(self) -> None:
        """Take in that what was said has run out: steps were missed, and the listener heard silence meanwhile.

        What was not said in them is said from now on, one micro-turn at a time, or it would run ahead of the beat and
        could not be stopped any more.
        """
        self._has_lead = False

    def speak(self, samples: int) -> Slice:
        """Say the next `samples` samples, a little more where speech begins; see `OUTPUT_LEAD_SAMPLES`."""
        if not self.is_speaking:
            self._has_lead = False
            return Slice()
        left = samples if self._has_lead else samples + OUTPUT_LEAD_SAMPLES
        self._has_lead = True
        parts: list[Samples] = []
        utterances: list[Utterance] = []
        words: list[SpokenWord] = []
        said = 0
        while left > 0 and self.is_speaking:
            lines = self._whose_turn()
            line = lines[0]
            line.render(self._voice, left)
            if not line.has_begun:
                line.has_begun = True
                utterances.append(replace(line.utterance, start_sample=said))
            until = line.position + left
            if self._urgent and lines is self._lines:
                until = min(until, line.word_boundary())
            part = line.audio[line.position : until]
            words.extend(_words_until(line, line.position + len(part), said))
            parts.append(part)
            said += len(part)
            left -= len(part)
            line.position += len(part)
            if line.is_done:
                lines.popleft()
        return Slice(np.concatenate(parts), tuple(utterances), tuple(words))

    def __deepcopy__(self, memo: dict[int, object]) -> Mouth:
        """Copy what is to be said; the voice is shared."""
        twin = Mouth(self._voice)
        twin._lines = copy.deepcopy(self._lines, memo)
        twin._urgent = copy.deepcopy(self._urgent, memo)
        twin._names, twin._has_lead = self._names, self._has_lead
        return twin

    def _whose_turn(self) -> deque[_Line]:
        """The queue that speaks next: an urgent line waits only for the end of a word."""
        if not self._urgent or not self._lines:
            return self._urgent or self._lines
        return self._urgent if self._lines[0].is_between_words else self._lines


def _words_until(line: _Line, position: int, said: int) -> list[SpokenWord]:
    """The words of a line that end by `position`, in the coordinates of a slice that has `said` samples so far."""
    words = []
    while line.next_word < len(line.ends) and line.ends[line.next_word] <= position:
        index = line.next_word
        end_sample = max(0, said + line.ends[index] - line.position)
        is_last = index == line.utterance.words - 1
        words.append(SpokenWord(line.utterance.utterance_id, index, end_sample, is_last))
        line.next_word += 1
    return words
