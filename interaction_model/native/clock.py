"""What time it is, for the query position of each micro-turn: learned embeddings of a fast hand and a slow hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.grammar import CLOCK_FAST, CLOCK_SLOW


class Clock(nn.Module):
    """Embeds the number t of a micro-turn by the hands of `grammar.clock`: `t mod 5` and `(t // 5) mod 60`.

    Both tables begin at zero, so that time is added to the query position only as far as training finds use for it.
    Our choice.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fast = nn.Parameter(torch.zeros(CLOCK_FAST, width))
        self.slow = nn.Parameter(torch.zeros(CLOCK_SLOW, width))

    def forward(self, micro_turns: Tensor) -> Tensor:
        """`(...)` int64, each from 0 -> `(..., C)`, to be added to the embedding of the query position."""
        return self.fast[micro_turns % CLOCK_FAST] + self.slow[micro_turns // CLOCK_FAST % CLOCK_SLOW]
