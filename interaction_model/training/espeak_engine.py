"""Speakers made from the voices of the program espeak-ng, which says nothing of where its words lie.

Every two words are kept apart by a long break, longer than any silence inside a word; the breaks are found in the
sound and cut to the length of a short pause. The words keep the melody of the phrase, but do not run into each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.training._errors import WordTimesError
from microturn.interaction_model.training.speakers import Speaker
from microturn.interaction_model.training.speech_program import SpeechProgram
from microturn.interaction_model.training.utterances import SpokenWord, Utterance
from microturn.protocols import INPUT_RATE_HZ, Samples

PROGRAM = "espeak-ng"
_WORDS_A_MINUTE = 175
_BREAK_MS = 600
_SHORTEST_BREAK = INPUT_RATE_HZ * 180 // 1000
"""Silence of at least this length is a break. Seen in 200 phrases of random speakers: every break left 345 ms or more,
and the longest silence inside a word was 90 ms."""
_FRAME = INPUT_RATE_HZ * 5 // 1000
_SILENCE = 2e-3
"""A frame whose largest sample is below it is silent: espeak-ng's breaks are digital silence but for the filter."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0, INPUT_RATE_HZ // 10
"""What is left of a break between words, 0 to 100 ms."""
_EDGE = INPUT_RATE_HZ // 20
"""Silence before and after the words, 50 ms."""


class EspeakSynthesizer:
    """Says words with espeak-ng in the speaker's style; one process of about 20 ms for each phrase."""

    def __init__(self) -> None:
        """Find the program.

        Raises:
            SpeechProgramMissingError: espeak-ng is not on PATH.
        """
        self._program = SpeechProgram(PROGRAM)

    def say(self, words: Sequence[str], speaker: Speaker, seed: int) -> Utterance:
        """Return the words as the speaker says them; `seed` fixes the pauses between them.

        Raises:
            WordTimesError: there are not as many stretches of sound as words.
        """
        style = speaker.style
        arguments = ["-m", "-v", speaker.voice]
        arguments += ["-p", str(_pitch_setting(style.pitch / style.formant))]
        arguments += ["-s", str(round(_WORDS_A_MINUTE * style.speed / style.formant))]
        arguments.append(f' <break time="{_BREAK_MS}ms"/> '.join(words))
        audio, _ = self._program.speak("-w", arguments, speed=style.formant)
        spans = _stretches(audio)
        if len(words) == 1 and spans:
            # Some slow voices make a pause inside a word that is as long as a break.
            spans = [(spans[0][0], spans[-1][1])]
        if len(spans) != len(words):
            raise WordTimesError(
                PROGRAM, expected=f"{len(words)} words", got=f"{len(spans)} stretches of sound"
            )
        pauses = np.random.default_rng(seed).integers(_SHORTEST_PAUSE, _LONGEST_PAUSE, len(words) - 1)
        return _closed_up(audio, words, spans, pauses.tolist(), speaker.name)


def _pitch_setting(factor: float) -> int:
    """Return what espeak-ng takes for a factor of its usual pitch: 50 is usual, 0 and 99 are the limits."""
    return int(np.clip(round(50 + 50 * np.log2(factor)), 0, 99))


def _stretches(audio: Samples) -> list[tuple[int, int]]:
    """Return the stretches of sound between breaks, in samples."""
    frames = np.pad(np.abs(audio), (0, -audio.size % _FRAME)).reshape(-1, _FRAME).max(axis=1)
    sounding: npt.NDArray[np.int64] = np.flatnonzero(frames > _SILENCE)
    if sounding.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(sounding) > _SHORTEST_BREAK // _FRAME)
    firsts = [sounding[0], *sounding[breaks + 1]]
    lasts = [*sounding[breaks], sounding[-1]]
    return [
        (int(first) * _FRAME, min((int(last) + 1) * _FRAME, audio.size))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def _closed_up(
    audio: Samples,
    words: Sequence[str],
    spans: Sequence[tuple[int, int]],
    pauses: Sequence[int],
    speaker: str,
) -> Utterance:
    pieces: list[Samples] = [np.zeros(_EDGE, np.float32)]
    spoken: list[SpokenWord] = []
    length = _EDGE
    for word, (start, end), pause in zip(words, spans, (*pauses, _EDGE), strict=True):
        spoken.append(SpokenWord(word, length, length + end - start))
        pieces += (audio[start:end], np.zeros(pause, np.float32))
        length += end - start + pause
    return Utterance(np.concatenate(pieces), tuple(spoken), speaker)
