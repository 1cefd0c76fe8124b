"""Weights of the mouth as one safetensors file, with what is needed to know whether they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from microturn.interaction_model.native._errors import BadConfigError, CorruptCheckpointError
from microturn.interaction_model.native._safetensors import expect_format, read_file, write_file
from microturn.interaction_model.native.config import NetworkConfig
from microturn.interaction_model.native.fingerprint import weights_digest
from microturn.interaction_model.native.flow_head import FlowHeadConfig
from microturn.interaction_model.native.mouth import Mouth

MOUTH_FILE = "mouth.safetensors"
"""Its name in the folder of a model."""
FORMAT = "microturn-native-mouth"
FORMAT_VERSION = 1


def save_mouth(mouth: Mouth, path: Path) -> None:
    """Write a mouth; an interrupted call leaves an older file as it was."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in mouth.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(asdict(mouth.flow.config), sort_keys=True),
        "weights_sha256": weights_digest(tensors),
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
    if weights_digest(tensors) != metadata.get("weights_sha256"):
        raise CorruptCheckpointError(path, expected="weights with the recorded SHA-256", got="others")
    return _filled(path, metadata.get("config", ""), tensors)


def expect_fits(mouth: Mouth, network: NetworkConfig) -> None:
    """Make sure that a mouth can be conditioned by a network's states.

    Raises:
        BadConfigError: it was made for a network of another width.
    """
    width, got = network.backbone.width, mouth.flow.config.condition
    if got != width:
        raise BadConfigError("FlowHeadConfig", "condition", expected=f"the network's width {width}", got=got)


def _filled(path: Path, config: str, tensors: Mapping[str, Tensor]) -> Mouth:
    try:
        mouth = Mouth(TypeAdapter(FlowHeadConfig).validate_json(config))
        mouth.load_state_dict(tensors)
    except (ValidationError, RuntimeError) as error:
        got = f"{type(error).__name__} on reading it"
        raise CorruptCheckpointError(
            path, expected="sizes and the tensors of these sizes", got=got
        ) from error
    return mouth
