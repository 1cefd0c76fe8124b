"""The router of a mixture of experts, in float32, on the CPU."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from microturn.kernels.cpu.activation import sigmoid
from microturn.kernels.cpu.linear import linear


def route(
    x: Tensor, weight: Tensor, correction: Tensor, top_k: int, shared: int, scale: float
) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.router.route`."""
    logits = linear(x.float(), weight.float())
    experts = correction.shape[0]
    choice = sigmoid(logits[:, :experts]).add_(correction)
    ids = _largest(choice, top_k)
    if shared:
        ids = torch.cat((ids, _appended(experts, shared).expand(x.shape[0], -1)), -1)
    # logsigmoid(z) = -log(1 + exp(-z)), written so that exp cannot overflow.
    chosen = logits.gather(-1, ids)
    log_scores = chosen.clamp_max(0.0).sub_(chosen.abs().neg_().exp_().log1p_())
    return ids.int(), torch.softmax(log_scores, -1).mul_(scale)


def _largest(choice: Tensor, top_k: int) -> Tensor:
    """Indices of the largest scores in descending order; `torch.topk` would leave the order of equal ones open."""
    return torch.sort(choice, dim=-1, descending=True, stable=True).indices[:, :top_k]


@lru_cache(maxsize=16)
def _appended(experts: int, shared: int) -> Tensor:
    return torch.arange(experts, experts + shared, device="cpu")
