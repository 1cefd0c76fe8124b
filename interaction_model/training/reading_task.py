"""People who read aloud: words of the vocabulary among others, and only the former are written down.

A stretch of a recording is cut where the reader pauses, and holds no word that is in doubt. As in the task of hearing, a
scene begins with a typed text that asks for nothing but that. A clip's name tells all of it, such as
`reading:103-1240-0000.flac:94:3:17`: the recording, played how fast in percent, its first word and one past its last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microturn.interaction_model.native.vocabulary import WORDS
from microturn.interaction_model.training.audio_rate import at_input_rate, read_sound
from microturn.interaction_model.training.digit_people import SPEEDS
from microturn.interaction_model.training.forced_alignment import AlignedWord
from microturn.interaction_model.training.hearing_task import HEAR_ALL
from microturn.interaction_model.training.phrase_sounds import ClipMemory, phrase_of
from microturn.interaction_model.training.scene import Phrase
from microturn.interaction_model.training.stage import Stage
from microturn.interaction_model.training.transcripts import Transcript
from microturn.interaction_model.training.utterances import SpokenWord, Utterance, levelled
from microturn.protocols import INPUT_RATE_HZ, Samples

PREFIX = "reading"
TASK = "reading"
STRETCH_MS = (4_000, 15_000)
"""Of a stretch, at the recording's own speed."""
PAUSE_MS = 70
"""Shortest pause in which a stretch may begin or end: what is cut there leaves nothing of the words beside it."""
LENGTH_MS = (8_000, 20_000)
"""After this time no further stretch begins; our choice, as is all of this."""
_APART_MS = (200, 1500)
_MARGIN_MS = 60
"""Kept before the first and after the last word of a stretch, but never more than half of the pause there."""
_EDGE = INPUT_RATE_HZ // 200
"""Samples over which a cut rises and falls, so that it does not click."""
_SAMPLES_PER_MS = INPUT_RATE_HZ // 1000
_VOCABULARY = frozenset(WORDS)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Words of one recording from a pause to a pause."""

    recording: str
    first: int
    end: int
    """One past the last word."""


class Readers:
    """Writes scenes with recordings of people who read aloud; one thread at a time."""

    def __init__(self, recordings: Iterable[Path], transcripts: Mapping[str, Transcript]) -> None:
        """Use those recordings of which there is a transcript, by name.

        Raises:
            ValueError: none of them has a stretch that can be used.
        """
        self._paths = {path.name: path for path in recordings if path.name in transcripts}
        self._transcripts = {name: transcripts[name] for name in self._paths}
        self.recordings = tuple(
            name
            for name in sorted(self._paths)
            if any(word.word in _VOCABULARY for word in transcripts[name].words)
        )
        """Names of those in which there is a word to write down, in doubt or not."""
        found = {name: stretches(name, transcripts[name]) for name in sorted(self._paths)}
        self.stretches = tuple(some for some in found.values() if some)
        """Of each recording that has any."""
        if not self.stretches:
            raise ValueError(
                f"recordings must hold a stretch without doubt, got {len(self._paths)} transcripts"
            )
        self._clip = ClipMemory(self._cut)

    def read(self, stage: Stage) -> None:
        """Write a scene; a task of the mixture."""
        stage.text(stage.form(HEAR_ALL))
        stage.wait(*_APART_MS)
        end = stage.now_ms + stage.between(*LENGTH_MS)
        while stage.now_ms < end:
            stage.recording(self.phrase(stage.one_of(stage.one_of(self.stretches)), stage.one_of(SPEEDS)))
            stage.wait(*_APART_MS)

    def read_whole(self, stage: Stage, recording: str) -> None:
        """Write a scene with one of `recordings`, all of it and at its own speed: to examine with."""
        stage.text(stage.form(HEAR_ALL))
        stage.wait(*_APART_MS)
        stage.recording(self.phrase(Stretch(recording, 0, len(self._transcripts[recording].words)), 100))

    def phrase(self, stretch: Stretch, speed: int) -> Phrase:
        """Return a stretch as a phrase, played at a speed in percent; its words are those of the vocabulary."""
        name = f"{PREFIX}:{stretch.recording}:{speed}:{stretch.first}:{stretch.end}"
        whole = phrase_of(self._clip(name), name)
        known = [place for place, word in enumerate(whole.words) if word in _VOCABULARY]
        spans = tuple(whole.spans_ms[place] for place in known)
        words = tuple(whole.words[place] for place in known)
        return Phrase(words, spans, name, tail_ms=whole.length_ms - spans[-1][1])

    def sound(self, phrase: Phrase) -> Samples:
        """Return the sound of a stretch, 16 kHz, `(S,)`."""
        return self._clip(phrase.clip).audio

    def _cut(self, name: str) -> Utterance:
        _, recording, speed, first, end = name.split(":")
        words = self._transcripts[recording].words
        begin_ms, end_ms = _cuts(words, int(first), int(end))
        audio = read_sound(self._paths[recording])[begin_ms * _SAMPLES_PER_MS : end_ms * _SAMPLES_PER_MS]
        played = at_input_rate(_faded(audio), INPUT_RATE_HZ * int(speed) / 100)
        inside = words[int(first) : int(end)]
        return levelled(Utterance(played, tuple(_played(inside, begin_ms, int(speed))), recording))


def stretches(recording: str, transcript: Transcript) -> list[Stretch]:
    """Return all stretches of a recording that may be used: of the right length, with a word to write, and no doubt."""
    words, doubts = transcript.words, transcript.doubtful()
    bounds = [place for place in range(len(words) + 1) if _is_pause(words, place)]
    return [
        Stretch(recording, first, end)
        for first in bounds
        for end in bounds
        if first < end
        and STRETCH_MS[0] <= words[end - 1].end_ms - words[first].begin_ms <= STRETCH_MS[1]
        and doubts.isdisjoint(range(first, end))
        and any(word.word in _VOCABULARY for word in words[first:end])
    ]


def _is_pause(words: Sequence[AlignedWord], place: int) -> bool:
    """Whether the reader pauses before the word of a place; before the first and after the last there is silence."""
    return place in (0, len(words)) or words[place].begin_ms - words[place - 1].end_ms >= PAUSE_MS


def _cuts(words: Sequence[AlignedWord], first: int, end: int) -> tuple[int, int]:
    """Where a stretch begins and ends, in milliseconds of the recording."""
    before = words[first - 1].end_ms if first else 0
    after = words[end].begin_ms if end < len(words) else words[-1].end_ms + 2 * _MARGIN_MS
    begin_ms, end_ms = words[first].begin_ms, words[end - 1].end_ms
    return begin_ms - min(_MARGIN_MS, (begin_ms - before) // 2), end_ms + min(
        _MARGIN_MS, (after - end_ms) // 2
    )


def _played(words: Sequence[AlignedWord], begin_ms: int, speed: int) -> Iterable[SpokenWord]:
    """The words of a cut that is played faster or slower."""
    for word in words:
        start, end = (100 * _SAMPLES_PER_MS * (at - begin_ms) // speed for at in (word.begin_ms, word.end_ms))
        yield SpokenWord(word.word, start, end)


def _faded(audio: Samples) -> Samples:
    piece = audio.copy()
    edge = min(_EDGE, piece.size // 2)
    slope = np.linspace(0, 1, edge, dtype=np.float32)
    piece[:edge] *= slope
    piece[piece.size - edge :] *= slope[::-1]
    return piece
