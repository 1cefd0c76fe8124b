"""Sampling with counter-based noise on the CPU.

The integers are computed with NumPy's uint32, whose arithmetic is modulo 2**32 and whose shifts bring in zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint32]

KEY_STARTS = (0x9E3779B9, 0x85EBCA6B)
"""What the two keys begin with: the golden ratio and a constant of MurmurHash3; any two numbers would do."""

FIRST_FACTOR = np.uint32(0x7FEB352D)
SECOND_FACTOR = np.uint32(0x846CA68B)
"""Factors of lowbias32 (Chris Wellons, hash-prospector, public domain)."""

LARGEST_UNIFORM = 1.0 - 2.0**-24
"""The largest float32 below one."""


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, temperature: Tensor) -> Tensor:
    """See `microturn.kernels.ops.sampling.sample`."""
    scores = logits.float()
    warm = (temperature > 0).nonzero().squeeze(-1)
    if len(warm):
        noise = gumbel_noise(sampling_hash(seeds[warm], positions[warm], logits.shape[-1]))
        heated = scores[warm].div_(temperature[warm].float().unsqueeze(-1)).add_(noise)
        scores = scores.index_copy(0, warm, heated)
    return scores.argmax(-1)


def sampling_hash(seeds: Tensor, positions: Tensor, columns: int) -> Words:
    """The noise's integers, `(T, columns)`; defined in `microturn.kernels.ops.sampling.sample`."""
    first, second = (_key(start, seeds, positions)[:, None] for start in KEY_STARTS)
    column = np.arange(columns, dtype=np.uint32)
    return _mixed(_mixed(column ^ first) + second)


def gumbel_noise(hashes: Words) -> Tensor:
    """-log(-log(1 - u)) with u = (hash + 1/2) / 2**32, float32; small u keep their relative precision."""
    uniform = torch.from_numpy(hashes.astype(np.float32))
    uniform.add_(0.5).mul_(2.0**-32).clamp_max_(LARGEST_UNIFORM)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _key(start: int, seeds: Tensor, positions: Tensor) -> Words:
    """32 bits of the 128 bits of (seed, position), one for each row."""
    key = np.full(len(seeds), start, dtype=np.uint32)
    for numbers in (seeds, positions):
        words = numbers.numpy().astype(np.int64).view(np.uint64)
        for word in (words.astype(np.uint32), (words >> np.uint64(32)).astype(np.uint32)):
            key = _mixed(key ^ word)
    return key


def _mixed(word: Words) -> Words:
    """The finaliser lowbias32, computed in place."""
    shifted = word >> 16
    word ^= shifted
    word *= FIRST_FACTOR
    np.right_shift(word, 15, out=shifted)
    word ^= shifted
    word *= SECOND_FACTOR
    np.right_shift(word, 16, out=shifted)
    word ^= shifted
    return word
