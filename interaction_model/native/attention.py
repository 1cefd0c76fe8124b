"""Attention with norms on queries and keys, short convolutions on keys and values, and a bias by distance.

The shape is that of the Inkling models. Scores are made block by block of queries, so that a sliding layer costs its
window for each token and not the length of the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microturn.interaction_model.native.config import BackboneConfig, LogScaling
from microturn.interaction_model.native.norm import RmsNorm, widened
from microturn.interaction_model.native.packing import Packing
from microturn.interaction_model.native.short_convolution import ShortConvolution

GLOBAL_BLOCK = 256
"""Queries of a global layer that are computed at once; each block sees the keys up to its end only. Our choice."""


class RelativeProfiles(nn.Module):
    """A bank of profiles of bias by distance; each token mixes them by its relative states."""

    def __init__(self, rank: int, reach: int) -> None:
        super().__init__()
        self.proj = nn.Parameter(torch.zeros(rank, reach))

    def forward(self, states: Tensor, reach: int) -> Tensor:
        """`(..., rank)` -> `(..., reach)`: the bias at distances from `reach - 1` down to 0."""
        mixed: Tensor = states @ self.proj[:, :reach].flip(1)
        return mixed


@dataclass(frozen=True)
class Projected:
    """Queries, keys, values and relative states of all tokens, by group of heads."""

    q: Tensor
    """(B, T, G, R, D), scaled; R query heads share a key head."""
    k: Tensor
    """(B, T, G, D)"""
    v: Tensor
    """(B, T, G, D)"""
    r: Tensor
    """(B, T, G, R, rank)"""


class Attention(nn.Module):
    """One attention layer, in the form that is trained."""

    def __init__(self, config: BackboneConfig, layer: int) -> None:
        super().__init__()
        self.heads = config.heads(layer)
        self.window = config.layer_window(layer)
        self.reach = config.bias_reach(layer)
        self.log_scaling = None if self.window else config.log_scaling
        width, heads = config.width, self.heads
        self.q_proj = nn.Linear(width, heads.query_width, bias=False)
        self.k_proj = nn.Linear(width, heads.key_width, bias=False)
        self.v_proj = nn.Linear(width, heads.key_width, bias=False)
        self.r_proj = nn.Linear(width, heads.heads * config.profile_rank, bias=False)
        self.o_proj = nn.Linear(heads.query_width, width, bias=False)
        self.k_sconv = ShortConvolution(heads.key_width, config.taps)
        self.v_sconv = ShortConvolution(heads.key_width, config.taps)
        self.q_norm = RmsNorm(heads.head_dim, config.eps)
        self.k_norm = RmsNorm(heads.head_dim, config.eps)
        self.rel_logits_proj = RelativeProfiles(config.profile_rank, self.reach)

    @property
    def scale(self) -> float:
        """What scores are multiplied with: 1 / D and not its root, as queries and keys are normed."""
        return 1.0 / self.heads.head_dim

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """`(B, T, C)`, normed, -> `(B, T, C)`."""
        projected = self._project(x, packing)
        attended = self._slide(projected, packing) if self.window else self._look_back(projected, packing)
        mixed: Tensor = self.o_proj(attended.reshape(*x.shape[:2], -1))
        return mixed

    def _project(self, x: Tensor, packing: Packing) -> Projected:
        shape = (*x.shape[:2], self.heads.groups, -1)
        k = self.k_sconv(self.k_proj(x), packing)
        v = self.v_sconv(self.v_proj(x), packing)
        q = self.q_norm(self.q_proj(x).unflatten(-1, (-1, self.heads.head_dim))) * self.scale
        r = self.r_proj(x).unflatten(-1, (self.heads.heads, -1))
        if self.log_scaling is not None:
            factor = log_factors(self.log_scaling, packing.positions, q.dtype)[..., None, None]
            q, r = (q * factor).to(q.dtype), (r * factor).to(r.dtype)
        by_group = (self.heads.groups, self.heads.heads // self.heads.groups)
        return Projected(
            q.unflatten(2, by_group),
            self.k_norm(k.unflatten(-1, (-1, self.heads.head_dim))),
            v.view(shape),
            r.unflatten(2, by_group),
        )

    def _slide(self, projected: Projected, packing: Packing) -> Tensor:
        """Attention within the window: `(B, T, G, R, D)`. Every block of queries sees its own slice of the keys."""
        tokens = projected.q.shape[1]
        block = min(tokens, max(32, self.window // 2))
        blocks = -(-tokens // block)
        keys = block + self.window - 1
        missing = blocks * block - tokens
        q, r = (_query_blocks(part, blocks, missing) for part in (projected.q, projected.r))
        k, v = (
            _key_blocks(part, self.window - 1, missing, keys, block) for part in (projected.k, projected.v)
        )
        bias = self.rel_logits_proj(r, self.window)
        distances = torch.arange(self.window - 1, -1, -1, device=q.device)
        positions = F.pad(packing.positions, (0, missing)).view(-1, 1, blocks, 1, block, 1)
        bias = bias.masked_fill(distances > positions, -torch.inf)
        attended = _attend(q, k, v, _skewed(bias, 0, keys))
        by_token: Tensor = attended.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)[:, :tokens]
        return by_token

    def _look_back(self, projected: Projected, packing: Packing) -> Tensor:
        """Attention to everything before: `(B, T, G, R, D)`."""
        tokens = projected.q.shape[1]
        block = min(tokens, self.reach, GLOBAL_BLOCK)
        parts = [
            self._look_back_from(projected, packing, begin, min(begin + block, tokens))
            for begin in range(0, tokens, block)
        ]
        return torch.cat(parts, 1)

    def _look_back_from(self, projected: Projected, packing: Packing, begin: int, end: int) -> Tensor:
        q, r = (part[:, begin:end].permute(0, 2, 3, 1, 4) for part in (projected.q, projected.r))
        k, v = (part[:, :end].transpose(1, 2) for part in (projected.k, projected.v))
        reach = min(self.reach, end)
        bias = _skewed(self.rel_logits_proj(r, reach), begin, reach - 1 + end)[..., reach - 1 :]
        if packing.is_packed:
            places = torch.arange(end, device=q.device)
            first = places[begin:] - packing.positions[:, begin:end]
            bias = bias.masked_fill((places < first[..., None])[:, None, None], -torch.inf)
        attended = _attend(q[:, :, None], k[:, :, None], v[:, :, None], bias[:, :, None])
        return attended[:, :, 0].permute(0, 3, 1, 2, 4)


def log_factors(scaling: LogScaling, positions: Tensor, dtype: torch.dtype) -> Tensor:
    """The factor of scores for queries at `positions`, of the same shape, in float32 or a wider `dtype`."""
    length = (positions + 1).to(torch.promote_types(dtype, torch.float32))
    return 1.0 + scaling.alpha * torch.log((length / scaling.floor).clamp(min=1.0))


def _query_blocks(part: Tensor, blocks: int, missing: int) -> Tensor:
    """`(B, T, G, R, D)` -> `(B, G, blocks, R, block, D)`, filled up with zeros."""
    padded = F.pad(part, (0, 0, 0, 0, 0, 0, 0, missing)).unflatten(1, (blocks, -1))
    by_group: Tensor = padded.permute(0, 3, 1, 4, 2, 5)
    return by_group


def _key_blocks(part: Tensor, before: int, after: int, keys: int, step: int) -> Tensor:
    """`(B, T, G, D)` -> `(B, G, blocks, keys, D)`: what each block of queries may see."""
    padded = F.pad(part.transpose(1, 2), (0, 0, before, after))
    return padded.unfold(2, keys, step).transpose(-1, -2)


def _skewed(bias: Tensor, first: int, columns: int) -> Tensor:
    """Move row q of `bias (..., Q, X)` to the right by `first + q`: `(..., Q, columns)`.

    What is right of it is minus infinity. What is left of it is 0 in `first` places, and minus infinity before those,
    of which there are fewer than Q; callers with a `first` cut off X - 1 columns and have Q at most X. Done by reading
    rows that are longer by one as rows of `columns`, the trick of relative shifts (Dai et al., Transformer-XL, 2019).
    """
    rows, reach = bias.shape[-2:]
    right = columns + 1 - first - reach
    if first:
        bias = F.pad(bias, (first, 0))
    padded = F.pad(bias, (0, right), value=-torch.inf)
    skewed: Tensor = padded.flatten(-2)[..., : rows * columns].unflatten(-1, (rows, columns))
    return skewed


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention of blocks.

    Args:
        q: `(B, G, n, R, Q, D)`.
        k: `(B, G, n, K, D)`.
        v: as `k`.
        bias: `(B, G, n, R, Q, K)`, minus infinity where nothing is seen.

    Returns:
        `(B, G, n, R, Q, D)`.
    """
    by_head = q.shape[3:5]
    scores = (q.flatten(3, 4) @ k.transpose(-1, -2)).unflatten(3, by_head) + bias
    weights = torch.softmax(widened(scores), -1).to(v.dtype)
    attended: Tensor = (weights.flatten(3, 4) @ v).unflatten(3, by_head)
    return attended
