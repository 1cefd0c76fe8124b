"""Voice activity: how likely each 32 ms of a stream of sound holds speech.

A stream's state is a value that goes in and comes out, so a snapshot of it costs nothing. Knows nothing of
segments, turns or words.

Source: the Silero VAD model, version 5 of its interface (windows of 512 samples behind 64 samples of context).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from microturn.interaction_model._errors import WeightsMismatchError
from microturn.interaction_model.cascade.onnx_session import Array, OnnxSession, as_mono
from microturn.protocols import INPUT_RATE_HZ, Samples

WINDOW_SAMPLES = 512
"""Length of one window: 32 ms at 16 kHz."""
CONTEXT_SAMPLES = 64
"""Samples before a window that the model sees again."""
STATE_WIDTH = 128


@dataclass(frozen=True, slots=True)
class VadWindow:
    """One judged window."""

    start_sample: int
    """Position in the stream of its first sample; it is `WINDOW_SAMPLES` long."""
    probability: float
    """How likely it holds speech, 0 to 1."""

    @property
    def end_sample(self) -> int:
        """Position one past its last sample."""
        return self.start_sample + WINDOW_SAMPLES


@dataclass(frozen=True, slots=True)
class VadState:
    """Where one stream stands. Never mutated: each step makes a new one."""

    recurrent: Array
    """Shape `(2, 1, 128)`, float32."""
    pending: Samples
    """Context of the next window and the samples that did not fill it yet, shape `(64 + r,)`, r < 512."""
    position: int
    """Position in the stream of the next window's first sample."""

    @property
    def end_sample(self) -> int:
        """Samples taken in so far."""
        return self.position + self.pending.size - CONTEXT_SAMPLES


class SileroVad:
    """The loaded detector; serves any number of streams from one thread."""

    def __init__(self, model: Path) -> None:
        """Load the ONNX file.

        Raises:
            WeightsMismatchError: it is a model with another interface.
        """
        self._session = OnnxSession(model)
        if self._session.inputs != ("input", "state", "sr"):
            raise WeightsMismatchError(
                "the voice activity detector",
                expected="inputs input, state, sr",
                got=f"{self._session.inputs}",
            )
        self._rate = np.array(INPUT_RATE_HZ, np.int64)

    def start(self, position: int = 0) -> VadState:
        """Return the state of a stream whose first sample has the given position."""
        return VadState(
            recurrent=np.zeros((2, 1, STATE_WIDTH), np.float32),
            pending=np.zeros(CONTEXT_SAMPLES, np.float32),
            position=position,
        )

    def step(self, state: VadState, audio: Samples) -> tuple[VadState, tuple[VadWindow, ...]]:
        """Judge every window that `audio`, 16 kHz of any length, completes. About 0.15 ms a window.

        The probabilities do not depend on how the stream is cut into pieces.
        """
        sound = np.concatenate((state.pending, as_mono(audio)))
        recurrent, position, begin = state.recurrent, state.position, 0
        windows: list[VadWindow] = []
        while begin + CONTEXT_SAMPLES + WINDOW_SAMPLES <= sound.size:
            piece = sound[None, begin : begin + CONTEXT_SAMPLES + WINDOW_SAMPLES]  # (1, 576)
            output, recurrent = self._session.run({"input": piece, "state": recurrent, "sr": self._rate})
            windows.append(VadWindow(position, float(output[0, 0])))
            begin += WINDOW_SAMPLES
            position += WINDOW_SAMPLES
        return VadState(recurrent, sound[begin:].copy(), position), tuple(windows)
