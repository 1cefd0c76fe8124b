"""A sentence as a direction in space, so that sentences that mean the same lie close together.

Knows nothing of intents. Sentences are embedded one at a time: the model's 8-bit arithmetic takes its scale from
everything it is given at once, so a batch would make a sentence's numbers depend on its neighbours.

Source: all-MiniLM-L6-v2 (Reimers and Gurevych 2019, arXiv 1908.10084): mean over tokens, scaled to length 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from microturn.interaction_model._errors import SpeechExtraMissingError
from microturn.interaction_model.cascade.onnx_session import OnnxSession

Embedding: TypeAlias = npt.NDArray[np.float32]
"""A direction, shape `(384,)`, of length 1."""
MOST_TOKENS = 128
"""What is longer is cut. Source: the length that the model was trained with."""


class SentenceEmbedder:
    """The loaded model; `embed` blocks for 3 to 10 ms, one thread at a time."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        """Load the model and its tokenizer.

        Raises:
            SpeechExtraMissingError: onnxruntime or tokenizers is not installed.
        """
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise SpeechExtraMissingError("tokenizers") from error
        self._session = OnnxSession(model)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MOST_TOKENS)

    def embed(self, sentence: str) -> Embedding:
        """Return the sentence's direction."""
        ids = np.array([self._tokenizer.encode(sentence).ids], np.int64)  # (1, T)
        hidden = self._session.run(
            {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        )[0][0]  # (T, 384)
        mean = hidden.mean(axis=0, dtype=np.float64)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), np.float32)
