"""Batch-invariant operators: the same bits for a row whoever else is computed with it, on CPU and GPU.

Knows tensors only; nothing of sessions and sound. Needs the extra `native`.
"""

from __future__ import annotations

import microturn.kernels._torch  # noqa: F401 (first: it says what to install)
from microturn.kernels._errors import (
    BadShapeError,
    FingerprintMismatchError,
    NativeExtraMissingError,
    NoInvariantPolicyError,
    NoKernelError,
)
from microturn.kernels.library import current_backend, use_backend

__all__ = (
    "BadShapeError",
    "FingerprintMismatchError",
    "NativeExtraMissingError",
    "NoInvariantPolicyError",
    "NoKernelError",
    "current_backend",
    "use_backend",
)
