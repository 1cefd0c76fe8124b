"""Speakers made from the voices of the program flite, which prints where every phoneme ends.

flite gives no times of words. How many phonemes a word has is asked once for each word; the phonemes of a phrase are
then shared out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from microturn.interaction_model.training._errors import WordTimesError
from microturn.interaction_model.training.speakers import Speaker
from microturn.interaction_model.training.speech_program import SpeechProgram
from microturn.interaction_model.training.utterances import SpokenWord, Utterance, tightened
from microturn.protocols import INPUT_RATE_HZ

PROGRAM = "flite"
_PAUSE = "pau"


class FliteSynthesizer:
    """Says words with flite in the speaker's style; one process of about 20 ms for each phrase."""

    def __init__(self) -> None:
        """Find the program.

        Raises:
            SpeechProgramMissingError: flite is not on PATH.
        """
        self._program = SpeechProgram(PROGRAM)
        self._counts: dict[str, int] = {}

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words as the speaker says them; flite says them in one way, whatever the seed.

        Raises:
            WordTimesError: the phrase has another number of phonemes than its words have alone.
        """
        return tightened(self._phrase(words, speaker))

    def _phrase(self, words: Sequence[str], speaker: Speaker) -> Utterance:
        style = speaker.style
        # Faster playback raises the formants; the pitch and the pace that it brings along are taken back here.
        stretch, shift = style.formant / style.speed, style.pitch / style.formant
        arguments = ["-voice", speaker.voice, "--setf", f"duration_stretch={stretch:.4f}"]
        arguments += ["--setf", f"f0_shift={shift:.4f}", "-psdur", "-t", " ".join(words)]
        audio, printed = self._program.speak("-o", arguments, speed=style.formant)
        scale = INPUT_RATE_HZ / style.formant
        spans = _word_spans(words, [self._count(word) for word in words], list(_phonemes(printed)))
        spoken = tuple(
            SpokenWord(word, round(start * scale), min(round(end * scale), audio.size))
            for word, (start, end) in zip(words, spans, strict=True)
        )
        return Utterance(audio, spoken, speaker.name)

    def _count(self, word: str) -> int:
        if word not in self._counts:
            _, printed = self._program.speak("-o", ["-psdur", "-t", word], speed=1.0)
            self._counts[word] = sum(name != _PAUSE for name, _, _ in _phonemes(printed))
        return self._counts[word]


def _phonemes(printed: str) -> Iterator[tuple[str, float, float]]:
    """Yield the name, the start and the end in seconds of what `-psdur` prints, such as `pau:0.166 s:0.282`."""
    begin = 0.0
    for piece in printed.split():
        name, _, end = piece.rpartition(":")
        yield name, begin, float(end)
        begin = float(end)


def _word_spans(
    words: Sequence[str], counts: Sequence[int], phonemes: Sequence[tuple[str, float, float]]
) -> list[tuple[float, float]]:
    sounding = [(start, end) for name, start, end in phonemes if name != _PAUSE]
    if len(sounding) != sum(counts) or 0 in counts:
        expected = f"{sum(counts)} phonemes for {len(words)} words"
        raise WordTimesError(PROGRAM, expected=expected, got=f"{len(sounding)}")
    ends = np.cumsum(counts)
    return [
        (sounding[end - count][0], sounding[end - 1][1])
        for count, end in zip(counts, ends.tolist(), strict=True)
    ]
