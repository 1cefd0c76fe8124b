"""Softmax, and the head of a language model without its table of probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import softmax as cpu
from microturn.kernels.library import define

_softmax = define(
    "softmax(Tensor x) -> Tensor",
    cpu=cpu.softmax,
    gpu="softmax:softmax",
    fake=lambda x: x.new_empty(x.shape),
)
_log_softmax = define(
    "log_softmax(Tensor x) -> Tensor",
    cpu=cpu.log_softmax,
    gpu="softmax:log_softmax",
    fake=lambda x: x.new_empty(x.shape),
)
_lm_head_logprob = define(
    "lm_head_logprob(Tensor h, Tensor weight, Tensor targets) -> (Tensor, Tensor)",
    cpu=cpu.lm_head_logprob,
    gpu="lm_head:lm_head_logprob",
    fake=lambda h, weight, targets: (_per_token(h), _per_token(h)),
)
_lm_head_argmax = define(
    "lm_head_argmax(Tensor h, Tensor weight) -> (Tensor, Tensor, Tensor)",
    cpu=cpu.lm_head_argmax,
    gpu="lm_head:lm_head_argmax",
    fake=lambda h, weight: (h.new_empty(h.shape[0], dtype=torch.int64), _per_token(h), _per_token(h)),
)


def _per_token(h: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], dtype=torch.float32)


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last dimension, in float32.

    Args:
        x: `(..., C)`, float32 or bfloat16.

    Returns:
        The shape and the dtype of `x`.
    """
    result: Tensor = _softmax(x)
    return result


def log_softmax(x: Tensor) -> Tensor:
    """Logarithm of the softmax over the last dimension, in float32.

    Args:
        x: `(..., C)`, float32 or bfloat16.

    Returns:
        The shape and the dtype of `x`.
    """
    result: Tensor = _log_softmax(x)
    return result


def lm_head_logprob(h: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probability of one id for each token, and the normaliser.

    On the CPU the logits are those of `linear`, rounded to the dtype of `h`; on a GPU they stay in float32 and are
    never stored.

    Args:
        h: `(T, C)` hidden states, float32 or bfloat16.
        weight: `(V, C)`, the dtype of `h`.
        targets: `(T,)` int64, each from 0 to V - 1.

    Returns:
        `logprob (T,)` and `logsumexp (T,)`, float32, in nats.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
    """
    _expect_head("lm_head_logprob", h, weight)
    if targets.shape != h.shape[:1] or targets.dtype != torch.int64:
        expected = f"({h.shape[0]},) of int64"
        got = (targets.dtype, *targets.shape)
        raise BadShapeError("lm_head_logprob", "targets", expected=expected, got=got)
    logprob, logsumexp = _lm_head_logprob(h, weight, targets)
    return logprob, logsumexp


def lm_head_argmax(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The id with the largest logit for each token; the lowest id among equals.

    On the CPU the logits are those of `linear`, rounded to the dtype of `h`, so equals are common in bfloat16; on a
    GPU they stay in float32 and are never stored.

    Args:
        h: `(T, C)` hidden states, float32 or bfloat16.
        weight: `(V, C)`, the dtype of `h`.

    Returns:
        `ids (T,)` int64, their `logit (T,)` float32 and `logsumexp (T,)` float32, in nats.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
    """
    _expect_head("lm_head_argmax", h, weight)
    ids, logit, logsumexp = _lm_head_argmax(h, weight)
    return ids, logit, logsumexp


def _expect_head(operator: str, h: Tensor, weight: Tensor) -> None:
    if h.dim() != 2:
        raise BadShapeError(operator, "h", expected="(T, C)", got=tuple(h.shape))
    if weight.dim() != 2 or weight.shape[1] != h.shape[1] or weight.dtype != h.dtype:
        expected = f"(V, {h.shape[1]}) of {h.dtype}"
        raise BadShapeError(operator, "weight", expected=expected, got=(weight.dtype, *weight.shape))
