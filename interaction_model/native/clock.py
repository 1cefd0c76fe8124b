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
from microturn.interaction_model.native.stopwatches import NEVER
from microturn.kernels.ops.linear import linear

FACES = 3
"""The time of the session, and two `stopwatches`; each has all hands."""


class Clock(nn.Module):
    """Embeds the times of a micro-turn by the hands of `grammar.CLOCK_PERIODS`.

    The matrix begins at zero, so that time is added to the query position only as far as training finds use for it. A
    stopwatch that never began adds nothing.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hands = nn.Linear(FACES * 2 * len(CLOCK_PERIODS), width, bias=False)
        nn.init.zeros_(self.hands.weight)

    def forward(self, times: Tensor) -> Tensor:
        """`(..., 3)` int64, `stopwatches.Times` -> `(..., C)`, to be added to the query's embedding; to train."""
        placed: Tensor = self.hands(self._places(times))
        return placed

    def embed(self, times: Tensor) -> Tensor:
        """Return the same as `forward`, `(N, 3)` -> `(N, C)`, each row with the same bits whatever the others; to serve."""
        return linear(self._places(times), self.hands.weight)

    def _places(self, times: Tensor) -> Tensor:
        """`(..., 3 * 2 * hands)`: the sine and the cosine of every hand of every face."""
        weight = self.hands.weight
        return _dial(weight.device, weight.dtype)[_rows(times.to(weight.device))].flatten(-3)


def _rows(times: Tensor) -> Tensor:
    """`(..., 3, hands)`: where each hand stands, as a row of the dial."""
    periods = torch.tensor(CLOCK_PERIODS, device=times.device)
    rows = times[..., None] % periods + periods.cumsum(0) - periods
    return rows.masked_fill(times[..., None] == NEVER, sum(CLOCK_PERIODS))


@cache
def _dial(device: torch.device, dtype: torch.dtype) -> Tensor:
    """`(sum of periods + 1, 2)`: sine and cosine of every place of every hand, and two zeros behind them."""
    with torch.inference_mode(mode=False):
        turns = torch.cat([torch.arange(period, dtype=torch.float64) / period for period in CLOCK_PERIODS])
        angles = 2 * torch.pi * turns
        placed = torch.stack([angles.sin(), angles.cos()], -1)
        return torch.cat([placed, placed.new_zeros(1, 2)]).to(device, dtype)
