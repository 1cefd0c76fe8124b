"""PyTorch's fused attention of some rows to splits of keys, each on its own, with bits that do not depend on the rows.

Every split is a batch of its own for the fused kernel. Its bits depend on three things that are held fixed here, as
measured with PyTorch 2.13 and MKL on x86-64, also where MKL and oneDNN were told to use older instructions:

- Rows are padded to a multiple of a quantum. Below it the matrix products take other routes.
- A call has two tasks or more where there are several threads. MKL divides the product of a lone task among threads,
  which changes its bits; tasks that run beside each other are computed by one thread each.
- The end of a split that nobody sees may be left out only down to a few lengths. MKL adds 512 products in parts of
  192, 192 and 128, and 256 in two of 128.

The quantum and the lengths are found by trying in float32; where nothing cheaper has the same bits, they are 8 rows and
whole splits. So they are for narrower dtypes, whose rounding would hide most differences from a trial.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from microturn.kernels.evidence import same_bits
from microturn.kernels.spec import CPU_NEAR_SPLIT, CPU_SPLIT

QUANTUM = 8
"""With so many rows no difference was found anywhere; four suffice but under `MKL_CBWR=COMPATIBLE`."""

SMALL_QUANTUM = 4
"""What is tried: a token's query heads of one group are often fewer."""

BEGUN = (64, 192, 256, 384)
"""Lengths of a split's beginning that are tried: a session's first seconds need no more."""

TASK_ROWS = 32
"""Rows that the fused kernel gives one thread, if it has fewer than 192; otherwise it takes more."""

TRIED_ROWS = (4, 8, 12, 20, 28, 36, 52, 100, 196, 204, 256)
"""Rows of a call that are compared: around 32 and 192, where the fused kernel cuts its work otherwise."""

_fused = torch._scaled_dot_product_flash_attention_for_cpu


class Partial(NamedTuple):
    """Attention to a few splits, each on its own."""

    out: Tensor
    """(n, G, M, D): the weighted mean of the values of each split."""
    weight: Tensor
    """(n, G, M) float32: the logarithm of the sum of its weights; minus infinity if nothing was seen."""


class Form(NamedTuple):
    """In which sizes the fused kernel may be called."""

    quantum: int
    """Rows are a multiple of it."""
    lengths: tuple[int, ...]
    """Keys that a split of `CPU_SPLIT` may be cut to, rising, the whole split last."""

    def least_keys(self, keys: int, split: int) -> int:
        """To how many keys a split may be cut of which the first `keys` are seen."""
        return split if split != CPU_SPLIT.keys else next(each for each in self.lengths if each >= keys)


SAFE = Form(QUANTUM, (CPU_SPLIT.keys,))


def attend_each(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float) -> Partial:
    """Attention of `rows (1, G, M, D)` to each split of `keys (n, G, split, D)` on its own."""
    count = keys.shape[0]
    if count == 1 and torch.get_num_threads() > 1 and keys.shape[1] * -(-rows.shape[2] // TASK_ROWS) == 1:
        # A twin, so that the task is not alone.
        keys, values = keys.expand(2, -1, -1, -1), values.expand(2, -1, -1, -1)
        mask = None if mask is None else mask.expand(2, -1, -1, -1)
        out, weight = _fused(rows.expand(2, -1, -1, -1), keys, values, attn_mask=mask, scale=scale)
        return Partial(out[:1], weight[:1])
    same_rows = rows if count == 1 else rows.expand(count, -1, -1, -1)
    return Partial(*_fused(same_rows, keys, values, attn_mask=mask, scale=scale))


def form_for(dtype: torch.dtype, head_dim: int) -> Form:
    """The smallest sizes that have the bits of larger ones, with the present number of threads; tried once."""
    return _found_form(head_dim, torch.get_num_threads()) if dtype == torch.float32 else SAFE


@lru_cache(maxsize=64)
def _found_form(head_dim: int, threads: int) -> Form:
    with torch.inference_mode():
        tried = _Trial(head_dim)
        quantum = SMALL_QUANTUM if tried.may_have_rows(SMALL_QUANTUM) else QUANTUM
        lengths = [length for length in BEGUN if tried.may_have_keys(length, quantum)]
    return Form(quantum, (*lengths, CPU_SPLIT.keys))


class _Trial:
    """Random numbers, and what the fused kernel makes of them in the sizes that are known to be safe.

    In every second key the values are those of the key before with the other sign, so that what was rounded off
    remains.
    """

    def __init__(self, head_dim: int) -> None:
        drawn = torch.Generator().manual_seed(0)
        shape = (1, 2, CPU_SPLIT.keys, head_dim)
        self._rows, self._keys, self._values = (
            torch.randn(shape, generator=drawn, dtype=torch.float32) for _ in range(3)
        )
        self._values[:, :, 1::2] = -self._values[:, :, ::2]
        self._scale = 2.0 / head_dim**0.5

    def may_have_rows(self, quantum: int) -> bool:
        """Whether any multiple of so many rows has the bits of many."""
        counts = [count for count in TRIED_ROWS if count % quantum == 0]
        return all(
            _agree(self._part(count, keys, None), self._part(TRIED_ROWS[-1], keys, None))
            for count, keys in product(counts, (CPU_SPLIT.keys, CPU_NEAR_SPLIT.keys))
        )

    def may_have_keys(self, length: int, quantum: int) -> bool:
        """Whether the first `length` keys have the bits of a whole split of which no other is seen."""
        seen = torch.arange(CPU_SPLIT.keys, device="cpu") < torch.tensor([[length], [length - 9], [3]])
        mask = torch.zeros(seen.shape, dtype=torch.float32, device="cpu").masked_fill_(~seen, -torch.inf)
        return all(
            _agree(
                self._part(count, length, mask[row, :length]),
                self._part(count, CPU_SPLIT.keys, mask[row]),
            )
            for count, row in product((quantum, 28), range(len(mask)))
        )

    def _part(self, rows: int, keys: int, mask: Tensor | None) -> Partial:
        some = self._rows[:, :, :rows].contiguous()
        scores = None if mask is None else mask.expand(1, 1, rows, -1)
        return attend_each(some, self._keys[:, :, :keys], self._values[:, :, :keys], scores, self._scale)


def _agree(one: Partial, other: Partial) -> bool:
    """Whether both have the same bits in the rows that both have."""
    rows = min(one.out.shape[2], other.out.shape[2])
    return same_bits(one.out[:, :, :rows].contiguous(), other.out[:, :, :rows].contiguous()) and same_bits(
        one.weight[:, :, :rows].contiguous(), other.weight[:, :, :rows].contiguous()
    )
