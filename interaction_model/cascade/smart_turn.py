"""How much the sound of somebody's speech says that the thought is finished.

Listens to melody and rhythm, not to words. Knows nothing of what is done with its answer.

Source: the smart-turn model, version 3.2 (a Whisper encoder with a head), on the last 8 s of sound.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.log_mel import log_mel
from microturn.interaction_model.cascade.onnx_session import OnnxSession, as_mono
from microturn.protocols import INPUT_RATE_HZ, Samples

HEARD_SAMPLES = 8 * INPUT_RATE_HZ
"""How much of the end of the sound is listened to."""


class SmartTurn:
    """The loaded model; `finished` blocks for about 50 ms, one thread at a time."""

    def __init__(self, model: Path) -> None:
        """Load the ONNX file.

        Raises:
            WeightsMismatchError: it is a model with another interface.
        """
        self._session = OnnxSession(model)
        if self._session.inputs != ("input_features",):
            raise WeightsMismatchError(
                "the turn detector", expected="one input, input_features", got=f"{self._session.inputs}"
            )

    def finished(self, audio: Samples) -> float:
        """Return how likely the speaker of 16 kHz sound, ending in a little silence, has finished; 0 to 1."""
        sound = as_mono(audio)[-HEARD_SAMPLES:]
        sound = np.pad(sound, (HEARD_SAMPLES - sound.size, 0))
        levelled = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
        features = log_mel(levelled)[None]  # (1, 80, 800)
        return float(self._session.run({"input_features": features})[0][0, 0])
