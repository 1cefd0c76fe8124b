"""The short causal convolution that follows keys, values and both branches of a layer."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from microturn.interaction_model.native.norm import widened
from microturn.interaction_model.native.packing import Packing


class ShortConvolution(nn.Module):
    """Each channel's weighted sum over the newest `taps` tokens, added to the token; summed in float32.

    The mathematics of `microturn.kernels.ops.short_conv.short_conv`, with gradients. On the CPU shifted products cost
    5 ms where PyTorch's grouped convolution costs 9 (four rows of 512 tokens, width 256, with gradients, one thread).
    """

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        # Only its weight is used, under the name that Inkling's checkpoints have for it.
        self.conv1d = nn.Conv1d(width, width, taps, groups=width, bias=False)

    @property
    def taps(self) -> Tensor:
        """`(C, W)`; the last column belongs to the token itself."""
        return self.conv1d.weight[:, 0]

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """`(B, T, C)` -> the same shape and dtype."""
        tokens, columns = x.shape[1], self.taps.unbind(1)
        wide = widened(x)
        total = wide.addcmul(wide, widened(columns[-1]))
        past = F.pad(wide, (0, 0, len(columns) - 1, 0))
        for tap, column in enumerate(columns[:-1]):
            earlier = past[:, tap : tap + tokens]
            if packing.is_packed:
                earlier = earlier * packing.has_before(len(columns) - 1 - tap)
            total = total.addcmul(earlier, widened(column))
        return total.to(x.dtype)
