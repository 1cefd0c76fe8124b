"""Attention over dense keys, cut at fixed places, from PyTorch's own differentiable operators.

It serves models that were not written for the paged `attention` operator. It is batch-invariant while the
batch-invariant mode is on, because then its matrix products are. Every product has a shape that is fixed but for the
number of queries and of batches: a longer context, or more padding, adds splits and changes none of those before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels._errors import BadShapeError

DENSE_SPLIT = 128
"""Keys per split. Our choice: smaller than `CPU_SPLIT`, as every query is multiplied with all keys of a split."""

_NOTHING = -math.inf


class _Keys(NamedTuple):
    """Keys and values in whole splits."""

    keys: Tensor
    """(B, G, n, split, D)"""
    values: Tensor
    """(B, G, n, split, Dv)"""
    bias: Tensor
    """What is added to the scores, minus infinity where a key is not seen; (B or 1, H or 1, Q or 1, n * split)."""


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    first_key: Tensor | None = None,
) -> Tensor:
    """Attend to all keys that the mask shows.

    The largest score is exact in any order, so it is taken over all keys at once; weights are summed within each
    split, and the splits' sums are added from left to right. A split that no query sees adds zero.

    Args:
        query: (B, H, Q, D), floating.
        key: (B, G, L, D) with H a multiple of G; query head h reads key head h // (H // G).
        value: (B, G, L, Dv).
        mask: True where a key is seen, or a number to add to the score; broadcasts to (B, H, Q, L).
        bias: a second number to add, of the same shape.
        is_causal: query i sees keys 0 to i; for queries that begin with key 0.
        dropout: the probability that a weight is set to 0.
        scale: factor on the scores; 1 / sqrt(D) unless given.
        first_key: (B,) int64, the position of key 0 in its sequence; 0 unless given, negative where the sequence begins
            with padding. Splits begin at multiples of `DENSE_SPLIT` of these positions.

    Returns:
        (B, H, Q, Dv) of query's dtype; 0 for a query that sees no key.

    Raises:
        BadShapeError: H is not a multiple of G.
    """
    if query.shape[1] % key.shape[1]:
        raise BadShapeError(
            "attention", "query", expected=f"a multiple of {key.shape[1]} heads", got=query.shape[1]
        )
    kind = torch.promote_types(query.dtype, torch.float32)
    scores_bias = _joined_bias(query, key, mask, bias, is_causal, kind)
    cut = _in_splits(key.to(kind), value.to(kind), scores_bias, first_key)
    weights, total = _weights(query.to(kind) * _scale(query, scale), cut)
    summed = _weighted_values(F.dropout(weights, dropout), cut.values)
    result = torch.where(total > 0, summed / total.clamp_min(torch.finfo(kind).tiny), 0.0)
    return result.reshape(*query.shape[:3], value.shape[-1]).to(query.dtype)


def _scale(query: Tensor, scale: float | None) -> float:
    return 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale


def _joined_bias(
    query: Tensor, key: Tensor, mask: Tensor | None, bias: Tensor | None, is_causal: bool, kind: torch.dtype
) -> Tensor:
    """Everything that is added to the scores, as one tensor of four dimensions."""
    added = torch.zeros(1, 1, 1, key.shape[2], dtype=kind, device=query.device)
    if mask is not None and mask.dtype == torch.bool:
        added = added.masked_fill(~mask, _NOTHING)
    elif mask is not None:
        added = added + mask.to(kind)
    if bias is not None:
        added = added + bias.to(kind)
    if is_causal:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        added = added.masked_fill(~seen, _NOTHING)
    return added


def _in_splits(key: Tensor, value: Tensor, bias: Tensor, first_key: Tensor | None) -> _Keys:
    """Move each sequence so that its splits begin at multiples of the split, and fill up with unseen keys."""
    length = key.shape[2]
    front = torch.zeros(1, dtype=torch.int64) if first_key is None else first_key.cpu() % DENSE_SPLIT
    width = -(-(length + int(front.max())) // DENSE_SPLIT) * DENSE_SPLIT
    if not front.any():
        room = width - length
        key, value = (F.pad(part, (0, 0, 0, room)) for part in (key, value))
        bias = F.pad(bias, (0, room), value=_NOTHING)
    else:
        source = torch.arange(width)[None, :] - front[:, None]
        key, value, bias = _moved(key, value, bias, source.to(key.device))
    shape = (*key.shape[:2], width // DENSE_SPLIT, DENSE_SPLIT, -1)
    return _Keys(key.reshape(shape), value.reshape(shape), bias)


def _moved(key: Tensor, value: Tensor, bias: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take column source[b, j] to column j, nothing where there is no such column; source (B, width)."""
    real = (source >= 0) & (source < key.shape[2])
    index = source.clamp(0, key.shape[2] - 1)[:, None, :, None]
    key, value = (
        part.gather(2, index.expand(*part.shape[:2], -1, part.shape[3])) * real[:, None, :, None]
        for part in (key, value)
    )
    bias = bias.expand(len(source), *bias.shape[1:])
    bias = bias.gather(3, index.transpose(2, 3).expand(*bias.shape[:3], -1))
    return key, value, bias.masked_fill(~real[:, None, None, :], _NOTHING)


def _weights(query: Tensor, cut: _Keys) -> tuple[Tensor, Tensor]:
    """Unnormalised weights (B, G, n, R, split) and their sum (B, G, R, 1), with R = H // G * Q rows per key head."""
    batch, groups, count, _, _ = cut.keys.shape
    rows = query.reshape(batch, groups, 1, -1, query.shape[-1]).expand(-1, -1, count, -1, -1)
    scores = _product(rows, cut.keys.transpose(-1, -2))
    bias = cut.bias.expand(batch, query.shape[1], query.shape[2], -1)
    bias = bias.reshape(batch, groups, scores.shape[3], count, DENSE_SPLIT).transpose(2, 3)
    scores = scores + bias
    largest = scores.detach().amax((2, 4), keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
    weights = (scores - largest).exp()
    return weights, _left_fold(weights.sum(-1, keepdim=True))


def _weighted_values(weights: Tensor, values: Tensor) -> Tensor:
    """(B, G, n, R, split) times (B, G, n, split, Dv), added over n: (B, G, R, Dv)."""
    return _left_fold(_product(weights, values))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products over three leading dimensions, as one batch."""
    product = torch.bmm(
        left.reshape(-1, *left.shape[3:]).contiguous(), right.reshape(-1, *right.shape[3:]).contiguous()
    )
    return product.reshape(*left.shape[:4], right.shape[-1])


def _left_fold(parts: Tensor) -> Tensor:
    """Add over dimension 2 from left to right, from zero, so that leading zeros leave no trace."""
    total = torch.zeros_like(parts[:, :, 0])
    for index in range(parts.shape[2]):
        total = total + parts[:, :, index]
    return total
