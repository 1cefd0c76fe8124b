"""Weights of the mouth as one safetensors file, with what is needed to know whether they fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from microturn.interaction_model.native._errors import CorruptCheckpointError
from microturn.interaction_model.native._safetensors import expect_format, read_file, write_file
from microturn.interaction_model.native.fingerprint import weights_digest
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth

FORMAT = "microturn-native-mouth"
FORMAT_VERSION = 1


def save_mouth(mouth: Mouth, path: Path) -> None:
    """Write a mouth; an interrupted call leaves an older file as it was."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mouth.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(asdict(mouth.flow.config), sort_keys=True),
        "weights_sha256": weights_digest(mouth),
    }
    write_file(tensors, path, metadata)


def load_mouth(path: Path) -> Mouth:
    """Load a mouth.

    Raises:
        CheckpointMissingError: there is no such file.
        CorruptCheckpointError: it cannot be read, or its weights are not those that were written.
        ForeignCheckpointError: something else wrote it.
        FutureCheckpointError: a newer program wrote it.
    """
    metadata, tensors = read_file(path)
    expect_format(path, metadata, FORMAT, FORMAT_VERSION)
    mouth = _filled(path, metadata.get("config", ""), tensors)
    if weights_digest(mouth) != metadata.get("weights_sha256"):
        raise CorruptCheckpointError(path, expected="weights with the recorded SHA-256", got="others")
    return mouth


def _filled(path: Path, config: str, tensors: dict[str, Tensor]) -> Mouth:
    try:
        mouth = Mouth(TypeAdapter(FlowHeadConfig).validate_json(config))
        mouth.load_state_dict(tensors)
    except (ValidationError, RuntimeError) as error:
        got = f"{type(error).__name__} on reading it"
        raise CorruptCheckpointError(
            path, expected="sizes and the tensors of these sizes", got=got
        ) from error
    return mouth
