"""Softmax and the two ends of a language model's head, in float32, on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels.cpu.linear import linear
from microturn.kernels.cpu.norm import row_sum


def softmax(x: Tensor) -> Tensor:
    """See `microturn.kernels.ops.softmax.softmax`."""
    return torch.softmax(x.float().contiguous(), -1).to(x.dtype)


def log_softmax(x: Tensor) -> Tensor:
    """See `microturn.kernels.ops.softmax.log_softmax`."""
    return torch.log_softmax(x.float().contiguous(), -1).to(x.dtype)


def lm_head_logprob(h: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.softmax.lm_head_logprob`."""
    logits = linear(h, weight).float()
    normaliser = _logsumexp(logits)
    return logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - normaliser, normaliser


def lm_head_argmax(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See `microturn.kernels.ops.softmax.lm_head_argmax`."""
    logits = linear(h, weight).float()
    ids = logits.argmax(-1)
    return ids, logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1), _logsumexp(logits)


def _logsumexp(logits: Tensor) -> Tensor:
    """`(T, V)` float32 -> `(T,)`; `torch.logsumexp` would divide a single long row among threads."""
    largest = logits.amax(-1, keepdim=True)
    return row_sum((logits - largest).exp_()).log_().add_(largest).squeeze(-1)
