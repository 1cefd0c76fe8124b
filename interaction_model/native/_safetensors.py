"""The one place that notices that safetensors is not installed; `checkpoint` and `inkling` use it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from microturn.interaction_model.native._errors import CheckpointMissingError, CorruptCheckpointError
from microturn.kernels import NativeExtraMissingError

if find_spec("safetensors") is None:
    raise NativeExtraMissingError("safetensors")

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

__all__ = ("read_file", "save_file")


def read_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a file.

    Raises:
        CheckpointMissingError: there is no such file.
        CorruptCheckpointError: it is not a whole safetensors file.
    """
    if not path.is_file():
        raise CheckpointMissingError(path)
    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            return dict(opened.metadata() or {}), {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise CorruptCheckpointError(path, expected="a whole safetensors file", got=str(error)) from error
