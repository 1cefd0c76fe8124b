"""A mixture of experts whose router weighs the chosen experts against those that all tokens share.

The shape is that of the Inkling models. Training goes over the experts that have work, never over tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microturn.interaction_model.native.config import ExpertsConfig
from microturn.interaction_model.native.norm import widened


class Choice(NamedTuple):
    """Which experts compute each token, and with what weight."""

    ids: Tensor
    """(T, chosen) int64"""
    weights: Tensor
    """(T, chosen), the dtype of the tokens."""
    shared_weights: Tensor
    """(T, shared), the same."""


class Router(nn.Module):
    """Chooses by sigmoid scores plus a correction, and weighs by a softmax over what was chosen and shared.

    The mathematics of `microturn.kernels.ops.router.route`, with gradients. The correction moves the choice only; it
    is no parameter, and is meant to be moved against overload (DeepSeek-V3, 2024).
    """

    e_score_correction_bias: Tensor

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.count + config.shared, width))
        self.global_scale = nn.Parameter(torch.ones(1))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.count))

    def forward(self, x: Tensor) -> Choice:
        """`(T, C)` -> the choice of each token."""
        with torch.autocast(x.device.type, enabled=False):
            logits = widened(x) @ widened(self.weight).t()
            routed = logits[:, : self.config.count]
            scores = routed.detach().sigmoid() + widened(self.e_score_correction_bias)
            ids = scores.topk(self.config.chosen, -1).indices
            candidates = torch.cat([routed.gather(1, ids), logits[:, self.config.count :]], 1)
            weights = torch.softmax(F.logsigmoid(candidates), -1)
            weights = (weights * self.config.scale * widened(self.global_scale)).to(x.dtype)
        return Choice(ids, weights[:, : self.config.chosen], weights[:, self.config.chosen :])


class RoutedExperts(nn.Module):
    """The experts among which the router chooses."""

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(config.count, 2 * config.inner, width))
        self.down_proj = nn.Parameter(torch.empty(config.count, width, config.inner))

    def forward(self, x: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """`(T, C)` and a choice of (T, chosen) -> `(T, C)`. The sum over slots has no atomics."""
        tokens, slots = ids.shape
        order = ids.flatten().argsort(stable=True)
        counts = ids.flatten().bincount(minlength=len(self.gate_up_proj)).tolist()
        rows = x[order // slots].split(counts)
        done = [
            _expert(part, self.gate_up_proj[expert], self.down_proj[expert])
            for expert, part in enumerate(rows)
            if len(part)
        ]
        back = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
        by_slot = torch.cat(done)[back].view(tokens, slots, -1) * weights.unsqueeze(-1)
        return by_slot.sum(1)


class SharedExperts(nn.Module):
    """The experts that compute every token."""

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Parameter(torch.empty(config.shared, config.inner, width))
        self.up_proj = nn.Parameter(torch.empty(config.shared, config.inner, width))
        self.down_proj = nn.Parameter(torch.empty(config.shared, width, config.inner))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """`(T, C)` and weights of (T, shared) -> `(T, C)`."""
        gate, up = (torch.einsum("tc,sic->sti", x, part) for part in (self.gate_proj, self.up_proj))
        inner = F.silu(gate) * up * weights.t().unsqueeze(-1)
        return widened(torch.einsum("sti,sci->stc", inner, self.down_proj)).sum(0).to(x.dtype)


class MixtureOfExperts(nn.Module):
    """The sparse second half of a layer."""

    def __init__(self, width: int, config: ExpertsConfig) -> None:
        super().__init__()
        self.gate = Router(width, config)
        self.experts = RoutedExperts(width, config)
        self.shared_experts = SharedExperts(width, config)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` -> the same shape."""
        tokens = x.flatten(0, 1)
        choice: Choice = self.gate(tokens)
        routed = self.experts(tokens, choice.ids, choice.weights)
        mixed: Tensor = routed + self.shared_experts(tokens, choice.shared_weights)
        return mixed.view(x.shape)


def _expert(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down)
