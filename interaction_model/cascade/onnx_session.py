"""The one place that loads onnxruntime: a model file becomes something that can be run on one thread.

It does not know what the models compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from microturn.interaction_model._errors import SpeechExtraMissingError

Array: TypeAlias = npt.NDArray[Any]
"""A tensor of any element type; each model states its own."""


class OnnxSession:
    """A loaded model. It runs in the thread that calls it and may be called from several, one at a time each."""

    def __init__(self, model: Path | bytes) -> None:
        """Load `model`, a file or its content. Blocks for up to seconds.

        Raises:
            SpeechExtraMissingError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise SpeechExtraMissingError("onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning pool would burn a core between the beats.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self.inputs: tuple[str, ...] = tuple(node.name for node in self._session.get_inputs())
        """Names of the inputs."""
        self.outputs: tuple[str, ...] = tuple(node.name for node in self._session.get_outputs())
        """Names of the outputs, in the order of `run`."""

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Compute `outputs` (all of them by default). Blocks for the whole computation."""
        result: list[Array] = self._session.run(None if outputs is None else list(outputs), dict(feeds))
        return result


def as_mono(audio: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return the sound as contiguous float32 of shape `(S,)`; nothing is copied when it is that already."""
    return np.ascontiguousarray(audio, dtype=np.float32).reshape(-1)
