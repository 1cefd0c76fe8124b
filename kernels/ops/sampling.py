"""Sampling of tokens with noise that only (seed, position, column) decide."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import sampling as cpu
from microturn.kernels.library import define

_sample = define(
    "sample(Tensor logits, Tensor seeds, Tensor positions, Tensor temperature) -> Tensor",
    cpu=cpu.sample,
    gpu="sampling:sample",
    fake=lambda logits, seeds, positions, temperature: logits.new_empty(logits.shape[0], dtype=torch.int64),
)


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, temperature: Tensor) -> Tensor:
    """Draw one id for each row: `argmax(logits / temperature + gumbel)`, the lowest id among equals.

    The noise is a hash, so a token can be drawn again at any time, alone or in any batch. All its integers are
    unsigned, of 32 bits, modulo 2**32, and the same on every device; `^` is exclusive or:

        mix(h):  h ^= h >> 16;  h *= 0x7FEB352D;  h ^= h >> 15;  h *= 0x846CA68B;  h ^= h >> 16
        key(h) = mix(mix(mix(mix(h ^ seed_low) ^ seed_high) ^ position_low) ^ position_high)
        hash   = mix(mix(column ^ key(0x9E3779B9)) + key(0x85EBCA6B))
        u      = (float32(hash) + 0.5) * 2**-32, at most 1 - 2**-24
        gumbel = -log(-log(1 - u)), float32, where a small u keeps its relative precision (log1p)

    `low` and `high` are the halves of int64 numbers in two's complement. The logarithms may differ by device in
    their last bits, and with them an id whose score lies that near to another's. mix is lowbias32 by Chris Wellons
    (hash-prospector, public domain); the two keys are ours, so that two rows do not hold the same noise in another
    order, as they may with one.

    Args:
        logits: `(T, V)`, float32 or bfloat16; minus infinity rules an id out.
        seeds: `(T,)` int64, of the session.
        positions: `(T,)` int64, in the session.
        temperature: `(T,)` float32; 0 or less takes the largest logit, without noise.

    Returns:
        `(T,)` int64.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
    """
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise BadShapeError("sample", "logits", expected="(T, V) with V at least 1", got=tuple(logits.shape))
    _expect_per_row(logits, "seeds", seeds, torch.int64)
    _expect_per_row(logits, "positions", positions, torch.int64)
    _expect_per_row(logits, "temperature", temperature, torch.float32)
    result: Tensor = _sample(logits, seeds, positions, temperature)
    return result


def _expect_per_row(logits: Tensor, parameter: str, numbers: Tensor, dtype: torch.dtype) -> None:
    if numbers.shape != logits.shape[:1] or numbers.dtype != dtype:
        expected = f"({logits.shape[0]},) of {dtype}"
        raise BadShapeError("sample", parameter, expected=expected, got=(numbers.dtype, *numbers.shape))
