"""Writes recordings down: with the built-in recogniser, or by a text that is given, and in both cases with the times of words.

Knows nothing of files of transcripts and of scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

from microturn.interaction_model.cascade.recognition_service import Recognizer
from microturn.interaction_model.cascade.recognizer import WEIGHT_NAMES, MoonshineRecognizer
from microturn.interaction_model.native.emission import Words
from microturn.interaction_model.native.vocabulary import WORDS, written_words
from microturn.interaction_model.training.audio_rate import at_input_rate
from microturn.interaction_model.training.forced_alignment import ForcedAligner
from microturn.interaction_model.training.transcripts import Transcript
from microturn.protocols import INPUT_RATE_HZ, Samples
from microturn.weights import WEIGHTS

SECOND_HEARING = 0.93
"""Speed at which a recording is heard again, a little slower and lower: what is understood in both ways is likely right."""
_VOCABULARY = frozenset(WORDS)


@dataclass(frozen=True, slots=True)
class Transcriber:
    """Understands recordings; blocks, one thread at a time."""

    recognizer: Recognizer
    aligner: ForcedAligner

    @classmethod
    def shipped(cls) -> Transcriber:
        """Load the recogniser of the cascade.

        Raises:
            WeightMissingError: a weight has not been fetched; the text has the command that does.
            SpeechExtraMissingError: a package of the extra `speech` is not installed.
        """
        return cls(MoonshineRecognizer.shipped(), ForcedAligner.shipped())

    def understood(self, audio: Samples) -> Transcript:
        """Return what the recogniser makes of sound `(S,)` at 16 kHz; about a twentieth of its length."""
        words = spoken_words(self.recognizer.transcribe(audio).text)
        slower = at_input_rate(audio, INPUT_RATE_HZ * SECOND_HEARING)
        again = spoken_words(self.recognizer.transcribe(slower).text)
        return Transcript(tuple(self.aligner.align(audio, words)), again)

    def given(self, audio: Samples, words: Words) -> Transcript:
        """Return a text that is known to be said in the sound, with the times of its words."""
        return Transcript(tuple(self.aligner.align(audio, words)), words)


def spoken_words(text: str) -> Words:
    """Split a recogniser's text into words, compounds too: "twenty-one" is two, "to-day" the one of the vocabulary."""
    words: list[str] = []
    for word in written_words(text.replace("\u2014", " ")):
        joined = word.replace("-", "")
        words += [joined] if joined in _VOCABULARY else filter(None, word.split("-"))
    return tuple(words)


def recognizer_name() -> str:
    """Return the name of the built-in recogniser, with the beginning of the hash of each of its weights."""
    return " ".join(("moonshine-tiny-en", *(WEIGHTS[name].sha256[:12] for name in WEIGHT_NAMES)))
