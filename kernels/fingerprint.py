"""Names the numeric behaviour of this process: where two fingerprints are equal, so are the bits.

Two processes with the same fingerprint compute the same bits for the same row. The reverse is not claimed: another
processor may give the same bits under another fingerprint. The number of threads is left out, because no operator's
bits depend on it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from microturn.kernels._errors import FingerprintMismatchError
from microturn.kernels.cpu.processor import processor
from microturn.kernels.spec import (
    CPU_NEAR_SPLIT,
    CPU_SPLIT,
    GPU_SPLIT,
    LOGICAL_SHARDS,
    NEAR_WINDOW,
    SPEC_VERSION,
)

GPU_FLAGS = (
    "CUBLASLT_WORKSPACE_SIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TRITON_INTERPRET",
)
"""Environment variables by which cuBLAS and Triton compute otherwise; `processor` reads those of the CPU."""
SPLITS = (CPU_SPLIT.keys, CPU_NEAR_SPLIT.keys, NEAR_WINDOW, GPU_SPLIT.keys)
"""Where attention cuts the keys."""
_HASH_DIGITS = 12


def numerics_fingerprint() -> str:
    """A short name for what this process computes.

    Returns:
        The version of the contract, the instruction set and PyTorch's version, to be read, and 12 hexadecimal digits of
        the SHA-256 hash of `fingerprint_parts`; as `v1-x86_64-avx512-torch2.13.0-0123456789ab`.
    """
    parts = fingerprint_parts()
    hashed = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_HASH_DIGITS]
    here = processor()
    instructions = here.capability.lower().replace(" ", "-")
    release = torch.__version__.split("+")[0]
    return f"v{SPEC_VERSION}-{here.machine}-{instructions}-torch{release}-{hashed}"


def fingerprint_parts() -> dict[str, Any]:
    """Everything that goes into the fingerprint, by name, to see in what two of them differ."""
    return {
        "spec": [SPEC_VERSION, *SPLITS, LOGICAL_SHARDS],
        "processor": asdict(processor()),
        "triton": _version_of("triton"),
        "flags": {name: os.environ[name] for name in GPU_FLAGS if name in os.environ},
        "settings": _settings(),
        "cuda": _cuda(),
    }


def require_fingerprint(recorded: str, what: str) -> None:
    """Refuse numbers that were made elsewhere.

    Args:
        recorded: the fingerprint that was kept with them.
        what: what they are, for the message, as `the recording talk.flac`.

    Raises:
        FingerprintMismatchError: this process has another fingerprint.
    """
    here = numerics_fingerprint()
    if recorded != here:
        raise FingerprintMismatchError(what, recorded=recorded, here=here)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _settings() -> dict[str, Any]:
    """What a program may have set in PyTorch."""
    return {
        "matmul precision": torch.get_float32_matmul_precision(),
        "oneDNN": torch.backends.mkldnn.is_available() and torch._C._get_mkldnn_enabled(),
        "bf16 reduction": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "fp16 reduction": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    }


def _cuda() -> dict[str, Any] | None:
    if not torch.cuda.is_available():
        return None
    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {
        "name": device.name,
        "capability": [device.major, device.minor],
        "processors": device.multi_processor_count,
        "runtime": torch.version.cuda,
    }
