"""Keeps the experts of a mixture evenly busy by moving the correction of their scores, without a loss.

A loss for balance would pull on the weights against what the words ask for, and its weight would have to be tuned; the
correction moves the choice only, and the networks of this shape have a place for it. After each step an expert that
got less than its share of tokens is moved up by a fixed amount and one that got more is moved down. Source: Wang et
al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.experts import Choice, Router


class ExpertBalance:
    """Counts what the routers of a network choose while it trains, from its construction to `close`.

    Args:
        network: any tree of modules; without routers nothing happens.
        rate: how far a correction moves in one step.
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        self._rate = rate
        self._routers = [module for module in network.modules() if isinstance(module, Router)]
        self._counts: dict[Router, Tensor] = {}
        self._hooks = [router.register_forward_hook(self._count) for router in self._routers]

    def close(self) -> None:
        """Stop counting."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def step(self) -> float | None:
        """Move all corrections by what was chosen since the last step.

        Returns:
            The load of the busiest expert of any router over its even share; None if nothing was chosen.
        """
        heaviest = [self._move(router, counts) for router, counts in self._counts.items()]
        self._counts.clear()
        return max(heaviest, default=None)

    def forget(self) -> None:
        """Leave out what was chosen since the last step."""
        self._counts.clear()

    def _count(self, router: nn.Module, _: Any, choice: Choice) -> None:
        if router.training and isinstance(router, Router):
            counts = choice.ids.flatten().bincount(minlength=router.config.count)
            before = self._counts.get(router)
            self._counts[router] = counts if before is None else before + counts

    def _move(self, router: Router, counts: Tensor) -> float:
        load = counts.float()
        router.e_score_correction_bias += self._rate * torch.sign(load.mean() - load)
        return float(load.max() / load.mean())
