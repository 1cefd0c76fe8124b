"""What the answers of the cascade depend on beside what it hears: its weights and the versions that compute with them."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version

from microturn.weights import WEIGHTS

_WEIGHTS = (
    "minilm",
    "minilm-tokenizer",
    "moonshine-decoder",
    "moonshine-encoder",
    "moonshine-tokenizer",
    "silero-vad",
    "smart-turn",
)
_PACKAGES = ("hibari-tts", "numpy", "onnxruntime", "tokenizers")


def cascade_fingerprint() -> str:
    """Return `cascade-` and 12 hexadecimal digits; equal for equal weights, versions and kind of processor.

    Equal fingerprints do not promise equal bits, as recognition runs on threads of its own; unequal ones say why
    two runs differ.

    Raises:
        importlib.metadata.PackageNotFoundError: a package of the extra `speech` is not installed.
    """
    parts = {
        "weights": {name: WEIGHTS[name].sha256 for name in _WEIGHTS},
        "packages": {name: version(name) for name in _PACKAGES},
        "processor": platform.machine(),
    }
    return f"cascade-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"
