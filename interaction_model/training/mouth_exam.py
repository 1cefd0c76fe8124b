"""How well the mouth's words are understood: a recogniser hears phrases, and the words that it gets wrong are counted.

The recogniser is not the mouth's teacher and was trained on people. It reads numbers as digits; both texts are written
out before they are compared. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from microturn.interaction_model.cascade.recognizer import MoonshineRecognizer
from microturn.interaction_model.native.flow_head import SERVING_MATH, FlowMath
from microturn.interaction_model.native.mouth import STEPS, Mouth, MouthState
from microturn.interaction_model.native.renderer import Renderer
from microturn.interaction_model.native.vocabulary import written_words
from microturn.interaction_model.native.vocoder_frames import TURN_FRAMES
from microturn.interaction_model.training.audio_rate import at_input_rate
from microturn.protocols import OUTPUT_RATE_HZ, Samples

TAIL_TURNS = 2
"""Micro-turns of listening after the one in which the last word ends."""
_PAD_SAMPLES = OUTPUT_RATE_HZ // 5


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Words that were wrong, missing or too many, of all that were said."""

    errors: int
    words: int

    @property
    def rate(self) -> float:
        """Errors per word said; may be above 1."""
        return self.errors / self.words if self.words else 0.0

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(self.errors + other.errors, self.words + other.words)


class MouthExam:
    """A recogniser that listens; loading takes about two seconds and blocks."""

    def __init__(self) -> None:
        """Load the recogniser.

        Raises:
            SpeechExtraMissingError: a package of the extra `speech` is not installed.
        """
        self._recognizer = MoonshineRecognizer.shipped()

    def errors(self, phrases: Sequence[Sequence[str]], say: Callable[[Sequence[str]], Samples]) -> WordErrors:
        """Let `say` speak each phrase, 24 kHz, and count what is not understood."""
        return sum((self._heard_wrong(words, say(words)) for words in phrases), WordErrors(0, 0))

    def _heard_wrong(self, words: Sequence[str], audio: Samples) -> WordErrors:
        sound = at_input_rate(np.pad(audio, _PAD_SAMPLES), OUTPUT_RATE_HZ)
        said = written_words(" ".join(words))
        return WordErrors(edits(said, written_words(self._recognizer.transcribe(sound).text)), len(said))


def say_phrase(
    mouth: Mouth, words: Sequence[str], *, seed: int = 0, steps: int = STEPS, math: FlowMath = SERVING_MATH
) -> Samples:
    """Return a phrase at 24 kHz as a session says it: each word is given in the micro-turn in which it begins.

    The backbone's hidden state is 0.
    """
    begins = mouth.begins(words, math)
    hidden = torch.zeros(1, mouth.flow.config.condition)
    state, renderer = MouthState(seed), Renderer(seed)
    sound = []
    for turn in range(begins[-1] // TURN_FRAMES + 1 + TAIL_TURNS):
        new = [word for word, at in zip(words, begins, strict=False) if at // TURN_FRAMES == turn]
        speech = mouth.speak(hidden, [state], [new], steps=steps, math=math)
        state = speech.states[0]
        sound.append(renderer.render(speech.frames[0].numpy()))
    return np.concatenate(sound)


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Return the least number of words to replace, leave out or put in (Levenshtein, 1966)."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, 1):
        diagonal, row[0] = row[0], place
        for at, other in enumerate(heard, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (word != other))
    return row[-1]
