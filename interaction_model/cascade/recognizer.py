"""Speech recognition: a stretch of sound becomes English text.

Whole stretches only: what to transcribe, and when, is decided elsewhere. Knows nothing of sessions and turns.

Source: Moonshine (Jeffries et al. 2024, arXiv 2410.15608), tiny English model; the loop over its two ONNX graphs
is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.onnx_session import Array, OnnxSession, as_mono
from microturn.interaction_model.cascade.recognizer_tokens import END, START, TokenTable, repeats
from microturn.protocols import INPUT_RATE_HZ, Samples
from microturn.weights import locate

WEIGHT_NAMES = ("moonshine-encoder", "moonshine-decoder", "moonshine-tokenizer")
"""The shipped weights: two graphs and the token table."""
TOKENS_PER_S = 6.5
"""Most tokens that one second of speech can need. Source: the model's authors cap generation so."""
SPARE_TOKENS = 4
"""Tokens allowed beyond that; not stated in the source, for very short sounds."""
MIN_SAMPLES = INPUT_RATE_HZ // 4
"""Shorter sound is padded with silence to this length: the encoder needs some frames to work on."""
SILENCE_PEAK = 2e-3
"""Sound whose peak stays below this (-54 dBFS) is silence and is not decoded."""
MIN_MEAN_LOGPROB = -0.95
"""Text less likely than this per token is noise taken for words. Not stated in the source; our choice."""
PHANTOMS = frozenset({"you", "thank you for watching", "thanks for watching"})
"""What the model says of tones and noise whatever its certainty, and nobody says alone to an assistant."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was understood."""

    text: str
    """The words, with the model's punctuation; empty for silence and noise."""
    mean_logprob: float
    """Mean natural-log probability of the tokens, 0 when there are none."""
    tokens: int
    """Tokens decoded, also those of text that was discarded."""


NOTHING = Recognition("", 0.0, 0)
"""The answer to silence."""


class MoonshineRecognizer:
    """The loaded model. `transcribe` blocks; one thread at a time."""

    @classmethod
    def shipped(cls) -> MoonshineRecognizer:
        """Load the weights that belong to this version; blocks for seconds.

        Raises:
            WeightMissingError: a weight has not been fetched; the text has the command that does.
            SpeechExtraMissingError: a package of the extra `speech` is not installed.
        """
        return cls(*map(locate, WEIGHT_NAMES))

    def __init__(self, encoder: Path, decoder: Path, tokenizer: Path) -> None:
        """Load the two graphs and the token table; blocks for seconds.

        Raises:
            WeightsMismatchError: the files are not those of Moonshine.
        """
        self._encoder = OnnxSession(encoder)
        self._decoder = OnnxSession(decoder)
        self._tokens = TokenTable.read(tokenizer)
        caches = [name for name in self._decoder.inputs if name.startswith("past_key_values.")]
        if not caches or "use_cache_branch" not in self._decoder.inputs:
            raise WeightsMismatchError(
                "the speech recogniser",
                expected="a merged decoder with key-value caches",
                got=f"inputs {self._decoder.inputs}",
            )
        self._caches = tuple(caches)
        self._masks_encoder = "attention_mask" in self._encoder.inputs
        self._masks_decoder = "encoder_attention_mask" in self._decoder.inputs

    def transcribe(self, audio: Samples) -> Recognition:
        """Return the words in `audio`, shape `(S,)` at 16 kHz. About 20 ms of CPU per second of sound."""
        sound = as_mono(audio)
        if sound.size == 0 or float(np.max(np.abs(sound))) < SILENCE_PEAK:
            return NOTHING
        if sound.size < MIN_SAMPLES:
            sound = np.pad(sound, (0, MIN_SAMPLES - sound.size))
        limit = int(sound.size / INPUT_RATE_HZ * TOKENS_PER_S) + SPARE_TOKENS
        ids, logprobs = self._decode(self._encode(sound), sound.size, limit)
        if not ids:
            return NOTHING
        mean = float(np.mean(logprobs))
        text = self._tokens.text(ids)
        return Recognition(text if _is_credible(text, mean) else "", mean, len(ids))

    def _encode(self, sound: Samples) -> Array:
        feeds: dict[str, Array] = {"input_values": sound[None]}  # (1, S)
        if self._masks_encoder:
            feeds["attention_mask"] = np.ones((1, sound.size), np.int64)
        return self._encoder.run(feeds)[0]  # (1, T, 288)

    def _decode(self, hidden: Array, samples: int, limit: int) -> tuple[list[int], list[float]]:
        """Choose the likeliest token until the end, the limit or a loop; return tokens and log-probabilities."""
        frames = hidden.shape[1]
        feeds: dict[str, Array] = {"encoder_hidden_states": hidden}
        if self._masks_decoder:
            # The graph takes every 384th entry of a mask over samples, not over the encoder's frames.
            feeds["encoder_attention_mask"] = np.ones((1, samples), np.int64)
        for name in self._caches:
            feeds[name] = np.zeros((1, 8, 0 if ".decoder." in name else frames, 36), np.float32)
        ids: list[int] = []
        logprobs: list[float] = []
        token, cached = START, False
        while len(ids) < limit:
            feeds["input_ids"] = np.array([[token]], np.int64)
            feeds["use_cache_branch"] = np.array([cached])
            outputs = self._decoder.run(feeds)
            token, logprob = _greedy(outputs[0][0, -1])
            if token == END:
                break
            ids.append(token)
            logprobs.append(logprob)
            if loop := repeats(ids):
                del ids[-loop:], logprobs[-loop:]
                break
            self._keep(feeds, outputs, cached)
            cached = True
        return ids, logprobs

    def _keep(self, feeds: dict[str, Array], outputs: list[Array], cached: bool) -> None:
        """Put the new caches where the next step reads them; the encoder's are made once, in the first step."""
        for name, value in zip(self._decoder.outputs[1:], outputs[1:], strict=True):
            if cached and ".encoder." in name:
                continue
            feeds[name.replace("present.", "past_key_values.", 1)] = value


def _is_credible(text: str, mean_logprob: float) -> bool:
    """Whether text is words of a person rather than the model's guess at noise."""
    if mean_logprob < MIN_MEAN_LOGPROB or not any(letter.isalnum() for letter in text):
        return False
    if any(letter.isalpha() and letter > _LAST_LATIN for letter in text):
        return False  # an English model writes other scripts only when there is no English to write
    return text.strip(" .,!?").lower() not in PHANTOMS


_LAST_LATIN = "\u024f"


def _greedy(logits: npt.NDArray[np.float32]) -> tuple[int, float]:
    """Return the likeliest token and its log-probability; `logits` has shape `(V,)`."""
    token = int(np.argmax(logits))
    best = float(logits[token])
    return token, -float(np.log(np.sum(np.exp(logits - best))))
