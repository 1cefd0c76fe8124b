"""The one place that loads hibari: phonemes of a sentence, and sound of phonemes with the length of each.

Knows nothing of words of the original text, loudness or caches.

Source: hibari-tts 0.2.1, its text-to-phoneme code, its ONNX model and its renderer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from microturn.interaction_model._errors import SpeechExtraMissingError, WeightsMismatchError
from microturn.interaction_model.cascade.duration_tap import add_output
from microturn.interaction_model.cascade.onnx_session import OnnxSession
from microturn.interaction_model.cascade.voice_style import VoiceFrames, VoiceStyle, styled
from microturn.protocols import Samples

DURATION_SAMPLES = 600
"""One unit of a phoneme's duration: two frames of 12.5 ms at 24 kHz."""
MOST_PHONEMES = 400
"""Most phonemes that the model takes at once. Source: the limit that hibari sets itself."""
_DURATIONS = "/Cast_32_output_0"


@dataclass(frozen=True, slots=True)
class PhonemeGroup:
    """A word of the normalised text and how it is said."""

    text: str
    phonemes: str
    """In the model's alphabet, with punctuation; may hold spaces and may be empty."""


@dataclass(frozen=True, slots=True)
class SpokenPhonemes:
    """Sound of one phoneme string."""

    audio: Samples
    """24 kHz."""
    ends: npt.NDArray[np.int64]
    """Sample at which each character of the string ends, shape `(characters,)`."""
    start: int
    """Sample at which the first character begins."""


class VoiceModel:
    """The loaded voice; blocks while it computes, one thread at a time."""

    def __init__(self) -> None:
        """Load hibari's voice; about half a second.

        Raises:
            SpeechExtraMissingError: hibari is not installed.
            WeightsMismatchError: its model does not say how long phonemes are.
        """
        try:
            from hibari import dsp, g2p, tts
            from hibari.g2p.normalize import normalize
        except ImportError as error:
            raise SpeechExtraMissingError("hibari-tts") from error
        assets = Path(g2p.ASSETS)
        model = add_output((assets / "hibari.onnx").read_bytes(), _DURATIONS)
        self._session = OnnxSession(model)
        self._vocabulary: dict[str, int] = json.loads((assets / "vocab.json").read_text("utf-8"))
        self._g2p: Any = g2p.G2P()  # hibari has no types
        self._normalize: Any = normalize
        self._synth: Any = dsp.synth
        self._split: Any = tts.Hibari.split_sentences
        self._check()

    def sentences(self, text: str) -> list[str]:
        """Split a text into sentences; white space is lost, words are not."""
        return list(self._split(text))

    def groups(self, sentence: str) -> list[PhonemeGroup]:
        """Return the words of the sentence as they are said: numbers, dates and signs are written out."""
        normal: str = self._normalize(sentence)
        if not normal.strip():
            return []
        groups: list[PhonemeGroup] = []
        text = phonemes = ""
        for token in self._g2p.phonemize_tokens(self._g2p.tokenize(normal)):
            text += token.text
            phonemes += token.phonemes or ""
            if token.whitespace:
                groups.append(PhonemeGroup(text, phonemes))
                text = phonemes = ""
        if text:
            groups.append(PhonemeGroup(text, phonemes))
        return groups

    def speak(self, phonemes: str, seed: int, style: VoiceStyle) -> SpokenPhonemes:
        """Return the sound of at most `MOST_PHONEMES` characters; those not in the alphabet take no time."""
        known = [self._vocabulary.get(character) for character in phonemes]
        ids = [0, *(i for i in known if i is not None), 0]
        outputs = self._session.run({"ids": np.array([ids]), "speed": np.array([style.speed], np.float32)})
        durations = outputs[-1].reshape(-1).astype(np.int64) * DURATION_SAMPLES
        frames = styled(VoiceFrames(*(output[0] for output in outputs[:-1])), style)
        audio = self._synth(
            frames.harmonic,
            frames.harmonic_phase,
            frames.noise,
            frames.free,
            frames.free_phase,
            frames.f0_hz,
            np.random.default_rng(seed),
        )
        positions = np.cumsum([i is not None for i in known])  # index in `ids` of each character
        ends = np.cumsum(durations)[positions] if known else np.zeros(0, np.int64)
        return SpokenPhonemes(np.asarray(audio, np.float32), ends, int(durations[0]))

    def _check(self) -> None:
        """Make sure, once, that the tapped numbers are the durations of what is heard."""
        expected = ("lh", "theta", "ln", "lr", "phi", "f0", _DURATIONS)
        if self._session.outputs != expected:
            raise WeightsMismatchError(
                "the voice", expected=f"outputs {expected}", got=f"{self._session.outputs}"
            )
        spoken = self.speak("A.", 0, VoiceStyle())
        outputs = self._session.run(
            {"ids": np.array([[0, self._vocabulary["A"], 0]]), "speed": np.ones(1, np.float32)},
            [_DURATIONS, "f0"],
        )
        samples = int(outputs[0].sum()) * DURATION_SAMPLES
        if samples != outputs[1].shape[1] * (DURATION_SAMPLES // 2) or spoken.ends.size != 2:
            raise WeightsMismatchError(
                "the voice", expected=f"{samples} samples", got=f"{outputs[1].shape[1]} frames"
            )
