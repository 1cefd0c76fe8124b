"""Batch-invariant operators: the same bits for a row whoever else is computed with it, on CPU and GPU.

Knows tensors only; nothing of sessions and sound. Needs the extra `native`. To make a model of the package
`transformers` invariant, and to have it certified, nothing else of microturn is needed:

    from microturn.kernels import certify, make_batch_invariant

    print(certify(make_batch_invariant(model), {"input_ids": ids}))
"""

from __future__ import annotations

import microturn.kernels._torch  # noqa: F401 (first: it says what to install)
from microturn.kernels._errors import (
    BadShapeError,
    FingerprintMismatchError,
    LostTokensError,
    NativeExtraMissingError,
    NoInvariantPolicyError,
    NoKernelError,
    PeerLostError,
    PoolFullError,
)
from microturn.kernels.aten_overrides import (
    disable_batch_invariant_mode,
    enable_batch_invariant_mode,
    is_batch_invariant_mode,
    set_batch_invariant_mode,
)
from microturn.kernels.certificate import Certificate
from microturn.kernels.collectives import OrderedGroup, row_counts, shard
from microturn.kernels.evidence import Evidence, row_evidence, same_bits
from microturn.kernels.fingerprint import fingerprint_parts, numerics_fingerprint, require_fingerprint
from microturn.kernels.invariant_model import certify, make_batch_invariant
from microturn.kernels.kv import EVICTED, Appended, BatchTables, CachedSession, PagePool, batch_tables
from microturn.kernels.library import current_backend, use_backend
from microturn.kernels.ops.activation import silu, swiglu
from microturn.kernels.ops.attention import attention
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels
from microturn.kernels.ops.flow import flow_step, guided_flow_step
from microturn.kernels.ops.int8 import linear_int8, quantize_weight
from microturn.kernels.ops.kv import append_kv
from microturn.kernels.ops.linear import bmm, certify_linears, linear, linear_shards, matmul, prepare_linears
from microturn.kernels.ops.moe import moe
from microturn.kernels.ops.norm import adaptive_rms_norm, add_rms_norm, mean, rms_norm
from microturn.kernels.ops.router import route
from microturn.kernels.ops.sampling import sample
from microturn.kernels.ops.short_conv import short_conv
from microturn.kernels.ops.softmax import lm_head_argmax, lm_head_logprob, log_softmax, softmax

__all__ = (
    "EVICTED",
    "Appended",
    "BadShapeError",
    "BatchTables",
    "CachedSession",
    "Certificate",
    "Evidence",
    "FingerprintMismatchError",
    "LostTokensError",
    "NativeExtraMissingError",
    "NoInvariantPolicyError",
    "NoKernelError",
    "OrderedGroup",
    "PagePool",
    "PeerLostError",
    "PoolFullError",
    "adaptive_rms_norm",
    "add_rms_norm",
    "append_kv",
    "attention",
    "batch_tables",
    "bmm",
    "certify",
    "certify_linears",
    "current_backend",
    "disable_batch_invariant_mode",
    "dmel_embed",
    "dmel_levels",
    "enable_batch_invariant_mode",
    "fingerprint_parts",
    "flow_step",
    "guided_flow_step",
    "is_batch_invariant_mode",
    "linear",
    "linear_int8",
    "linear_shards",
    "lm_head_argmax",
    "lm_head_logprob",
    "log_softmax",
    "make_batch_invariant",
    "matmul",
    "mean",
    "moe",
    "numerics_fingerprint",
    "prepare_linears",
    "quantize_weight",
    "require_fingerprint",
    "rms_norm",
    "route",
    "row_counts",
    "row_evidence",
    "same_bits",
    "sample",
    "set_batch_invariant_mode",
    "shard",
    "short_conv",
    "silu",
    "softmax",
    "swiglu",
    "use_backend",
)
