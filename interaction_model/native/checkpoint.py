"""Weights of the native model as one safetensors file, with what is needed to know whether they fit.

Its metadata hold the format's version, the sizes of the network, the vocabulary's SHA-256, the numeric fingerprint of
the process that wrote it, and a SHA-256 of all tensors, which finds what a cut or changed file would hide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor

from microturn.interaction_model.native._errors import (
    BadConfigError,
    CorruptCheckpointError,
    ForeignCheckpointError,
    VocabularyMismatchError,
)
from microturn.interaction_model.native._safetensors import expect_format, read_file, write_file
from microturn.interaction_model.native.config import NetworkConfig
from microturn.interaction_model.native.fingerprint import weights_digest
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.kernels.fingerprint import numerics_fingerprint

NETWORK_FILE = "network.safetensors"
"""Its name in the folder of a model."""
FORMAT = "microturn-native"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself."""

    config: NetworkConfig
    vocabulary_sha256: str
    numerics: str
    """The numeric fingerprint of the process that wrote it; of interest for replay, no condition for loading."""
    weights_sha256: str
    notes: Mapping[str, str]
    """What the writer added, as the step of training."""


def save(
    network: Network, path: Path, *, vocabulary: str = FINGERPRINT, notes: Mapping[str, str] | None = None
) -> None:
    """Write a network; an interrupted call leaves an older file as it was.

    Args:
        network: float32 or bfloat16, on any device.
        path: of the file.
        vocabulary: SHA-256 of the vocabulary it was trained with.
        notes: what else to keep.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "config": json.dumps(asdict(network.config), sort_keys=True),
        "vocabulary_sha256": vocabulary,
        "numerics": numerics_fingerprint(),
        "weights_sha256": weights_digest(tensors),
        "notes": json.dumps(dict(notes or {}), sort_keys=True),
    }
    write_file(tensors, path, metadata)


def read_info(path: Path) -> CheckpointInfo:
    """Read what a checkpoint says of itself, without its weights.

    Raises:
        CheckpointMissingError: there is no such file.
        CorruptCheckpointError: it cannot be read.
        ForeignCheckpointError: something else wrote it.
        FutureCheckpointError: a newer program wrote it.
    """
    return _info(path, read_file(path)[0])


def load(path: Path, *, vocabulary: str = FINGERPRINT, device: torch.device | str = "cpu") -> Network:
    """Load a network, in the dtypes it was saved in.

    Args:
        path: of the file.
        vocabulary: SHA-256 of the vocabulary that it must have been trained with.
        device: where its weights go.

    Raises:
        VocabularyMismatchError: it was trained with other words.
        CheckpointMissingError, CorruptCheckpointError, ForeignCheckpointError, FutureCheckpointError: as `read_info`;
            the weights are checked too.
    """
    metadata, tensors = read_file(path)
    info = _info(path, metadata)
    if info.vocabulary_sha256 != vocabulary:
        raise VocabularyMismatchError(path, expected=vocabulary, got=info.vocabulary_sha256)
    if weights_digest(tensors) != info.weights_sha256:
        raise CorruptCheckpointError(path, expected="weights with the recorded SHA-256", got="others")
    network = Network(info.config, device="meta")
    _expect_same_tensors(path, network, tensors)
    # Copies, as tensors that were read may lie anywhere in memory, and then add up in another order.
    copies = {name: tensor.to(device, copy=True) for name, tensor in tensors.items()}
    network.load_state_dict(copies, assign=True)
    return network


def _info(path: Path, metadata: Mapping[str, str]) -> CheckpointInfo:
    expect_format(path, metadata, FORMAT, FORMAT_VERSION)
    try:
        return CheckpointInfo(
            config=_network_config(metadata["config"]),
            vocabulary_sha256=metadata["vocabulary_sha256"],
            numerics=metadata["numerics"],
            weights_sha256=metadata["weights_sha256"],
            notes=json.loads(metadata["notes"]),
        )
    except (KeyError, ValueError, BadConfigError) as error:
        raise CorruptCheckpointError(path, expected="metadata of format 1", got=str(error)) from error


def _network_config(text: str) -> NetworkConfig:
    """Read sizes as strictly as they were written: a field too many or too few is an error."""
    given = json.loads(text)
    read: NetworkConfig = TypeAdapter(NetworkConfig).validate_python(given)
    written = json.loads(json.dumps(asdict(read)))
    if written != given:
        raise ValueError("sizes with fields that this version does not have, or without some that it has")
    return read


def _expect_same_tensors(path: Path, network: Network, tensors: Mapping[str, Tensor]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    different = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if different:
        name = different[0]
        expected = f"the tensors of this version's network, as {name!r} of shape {wanted.get(name)!r}"
        got = f"{len(different)} that differ, {name!r} of shape {given.get(name)!r}"
        # They are whole, as their digest was compared before: another version wrote them.
        raise ForeignCheckpointError(path, expected=expected, got=got)
