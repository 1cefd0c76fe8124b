"""What the answers of the native model depend on beside what it hears."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.mouth import STEPS
from microturn.interaction_model.native.state_window import StateWindow
from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.kernels.fingerprint import numerics_fingerprint


def model_fingerprint(network: nn.Module, mouth: nn.Module, window: StateWindow, temperature: float) -> str:
    """Return `native-`, 12 hexadecimal digits of weights and settings, and the numeric fingerprint.

    Sessions of two models with the same fingerprint, seed and inputs are the same to the bit.
    """
    kept = asdict(window)
    del kept["sessions"]
    settings = {"window": kept, "temperature": temperature, "flow steps": STEPS, "vocabulary": FINGERPRINT}
    hashed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for module in (network, mouth):
        hashed.update(weights_digest(module.state_dict()).encode())
    return f"native-{hashed.hexdigest()[:12]}-{numerics_fingerprint()}"


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all names, dtypes, shapes and numbers, in the order of names."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hashed.update(numbers.numpy().data)
    return hashed.hexdigest()
