"""What time it is, for the query position of each micro-turn: hands that turn at different speeds.

Each hand is the sine and the cosine of an angle, so that how far apart two times are is a linear function of both: what
is learned of three seconds at the beginning of a session holds an hour later. Source: the position encoding of Vaswani
et al., 2017, with whole periods, which make every angle a row of a table and the same to the bit after any time.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from microturn.interaction_model.native.grammar import CLOCK_PERIODS
from microturn.kernels.ops.linear import linear


class Clock(nn.Module):
    """Embeds the number of a micro-turn by the hands of `grammar.CLOCK_PERIODS`.

    The matrix begins at zero, so that time is added to the query position only as far as training finds use for it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hands = nn.Linear(2 * len(CLOCK_PERIODS), width, bias=False)
        nn.init.zeros_(self.hands.weight)

    def forward(self, micro_turns: Tensor) -> Tensor:
        """`(...)` int64, each from 0 -> `(..., C)`, to be added to the embedding of the query position; to train."""
        placed: Tensor = self.hands(self._places(micro_turns))
        return placed

    def embed(self, micro_turns: Tensor) -> Tensor:
        """Return the same as `forward`, `(N,)` -> `(N, C)`, each row with the same bits whatever the others; to serve."""
        return linear(self._places(micro_turns), self.hands.weight)

    def _places(self, micro_turns: Tensor) -> Tensor:
        """`(..., 2 * hands)`: the sine and the cosine of every hand."""
        weight = self.hands.weight
        return _dial(weight.device, weight.dtype)[_rows(micro_turns.to(weight.device))].flatten(-2)


def _rows(micro_turns: Tensor) -> Tensor:
    """`(..., hands)`: where each hand stands, as a row of the dial."""
    periods = torch.tensor(CLOCK_PERIODS, device=micro_turns.device)
    return micro_turns[..., None] % periods + periods.cumsum(0) - periods


@cache
def _dial(device: torch.device, dtype: torch.dtype) -> Tensor:
    """`(sum of periods, 2)`: sine and cosine of every place of every hand."""
    with torch.inference_mode(mode=False):
        turns = torch.cat([torch.arange(period, dtype=torch.float64) / period for period in CLOCK_PERIODS])
        angles = 2 * torch.pi * turns
        return torch.stack([angles.sin(), angles.cos()], -1).to(device, dtype)
