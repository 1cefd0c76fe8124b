"""The ways to multiply rows by a weight, from the cheapest to the slowest; `probe` finds the first that is invariant.

Every way computes only a few batch sizes (`ROW_SIZES`): rows are padded with zeros to the next of them, and long
batches are cut. So each size that is ever computed is tried by the probe, and can be computed once at load: oneDNN
takes some milliseconds to make its machine code for a size that the process has not met.

The way of choice for float32 is the **chain**: K is cut into parts of 512, and the parts are added from left to right.
Up to that length oneDNN adds the products of one output in a single ascending chain of fused multiply-adds, whatever
the rows, the threads and the width of the vectors: its bits equal those of a chain written out, on an AMD processor with
AVX-512 and with oneDNN limited to AVX2. Beyond 512 the order changes with the instruction set; a single column
is not added so, hence it is padded. Both are our findings, and a test repeats them wherever it runs. A single row of a
packed weight, or a few by a small one, are added in the same chain by `columns`, at about half the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels.cpu.columns import CHAIN_LENGTH, Columns
from microturn.kernels.cpu.rounding import rounded

ROW_SIZES = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 96, 128)
"""Rows that are computed at once; our choice: padding adds at most a quarter from 32 to 64 rows, half beyond."""

FEW_PRODUCTS = 320 * 1024
"""Up to so many products in all, several rows are computed by their columns too: oneDNN's call costs more then. Our
choice, from 2 to 20 rows by weights of (128, 16) to (576, 256)."""

Multiply = Callable[[Tensor, Sequence[Tensor], Tensor | None], Tensor]
"""`(M, K)`, the parts of a weight and a bias `(N,)` to `(M, N)`, the dtype of the first."""
Parts = Callable[[Tensor], tuple[Tensor, ...]]
"""A weight `(N, K)` in the form that a `Multiply` takes."""


@dataclass(frozen=True)
class Policy:
    """One way to multiply."""

    name: str
    """Its name in the cache."""
    multiply: Multiply
    plain: Parts
    """The weight for one use."""
    least_rows: int
    """The smallest of `ROW_SIZES` that is computed with a plain weight."""
    pack: Parts | None = None
    """The weight for many uses, in the library's own layout; None if there is none."""
    least_packed_rows: int = 1
    """The smallest of `ROW_SIZES` that is computed with a packed weight."""
    widens: bool = False
    """Whether a narrow dtype is computed in float32: then float32 is tried, as rounding would hide differences."""
    has_columns: bool = False
    """Whether a packed weight of float32 keeps its columns too, for single rows."""

    def operand(self, weight: Tensor) -> Operand:
        """A weight `(N, K)` for one use."""
        return Operand(self.multiply, self.plain(weight.detach()), self.least_rows, weight.shape[0])

    def packed_operand(self, weight: Tensor, columns: Columns | None = None) -> Operand | None:
        """A weight `(N, K)` for many uses; None if this policy knows no better form.

        Args:
            weight: is not kept.
            columns: what `columns_of` gave for it, if the caller has that already.
        """
        if self.pack is None:
            return None
        parts = self.pack(weight.detach())
        columns = columns or self.columns_of(weight)
        return Operand(self.multiply, parts, self.least_packed_rows, weight.shape[0], columns)

    def columns_of(self, weight: Tensor) -> Columns | None:
        """The columns of a weight or of a stack of them, where this policy uses them; a copy of the weight's size."""
        return Columns.of(weight) if self.has_columns and weight.dtype == torch.float32 else None


@dataclass(frozen=True)
class Operand:
    """A weight, ready to be multiplied with."""

    multiply: Multiply
    parts: tuple[Tensor, ...]
    least_rows: int
    outer: int
    """N."""
    columns: Columns | None = None
    """The weight once more, for few rows."""

    def times(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`x @ weight.T + bias`: `(M, K)` of any M to `(M, N)`, the dtype of `x`."""
        rows = x.shape[0]
        if self.columns is not None and self._is_few(rows, self.columns):
            total = self.columns.times(x)
            return total if bias is None else total.add_(bias)
        if rows > ROW_SIZES[-1]:
            return torch.cat([self._at_a_size(some, bias) for some in torch.split(x, ROW_SIZES[-1])])
        return self._at_a_size(x, bias) if rows else x.new_empty(0, self.outer)

    def _is_few(self, rows: int, columns: Columns) -> bool:
        """Whether so many rows are cheaper by the columns."""
        if columns.panels > 1:
            return rows == 1
        return rows == 1 or 0 < rows * self.outer * columns.inner <= FEW_PRODUCTS

    def _at_a_size(self, x: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.shape[0]
        size = _SIZE_OF[max(rows, self.least_rows)]
        if size == rows:
            return self._trimmed(x.contiguous(), bias)
        return self._trimmed(torch.constant_pad_nd(x, (0, 0, 0, size - rows)), bias)[:rows]

    def _trimmed(self, x: Tensor, bias: Tensor | None) -> Tensor:
        result = self.multiply(x, self.parts, bias)
        return result if result.shape[1] == self.outer else result[:, : self.outer].contiguous()


_SIZE_OF = tuple(next(size for size in ROW_SIZES if size >= rows) for rows in range(ROW_SIZES[-1] + 1))


def _by_onednn(x: Tensor, part: Tensor, bias: Tensor | None) -> Tensor:
    dense = None if bias is None else bias.contiguous()  # oneDNN reads a bias as if it had no gaps
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, part, dense, "none", [], "")
    return result


def _whole(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    # Zeros are added where there is no bias: oneDNN's code with a bias is another, which would be tried apart.
    return _by_onednn(x, parts[0], parts[1] if bias is None else bias)


def _chain(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    wide = x.float()
    total = _by_onednn(wide if len(parts) == 1 else wide[:, :CHAIN_LENGTH], parts[0], None)
    for place, part in enumerate(parts[1:], 1):
        begin = place * CHAIN_LENGTH
        inner = wide[:, begin : begin + CHAIN_LENGTH]
        total = torch.ops.mkldnn._linear_pointwise.binary(inner, total, part, None, "add")
    if bias is not None:
        total[:, : bias.shape[0]] += bias.float()
    return rounded(total, x.dtype)


def _native(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    return F.linear(x, parts[0], bias)


def _row_by_row(x: Tensor, parts: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    return torch.stack([F.linear(row, parts[0], bias) for row in x])


def _as_it_is(weight: Tensor) -> tuple[Tensor, ...]:
    return (weight,)


def _with_zeros(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.contiguous(), weight.new_zeros(weight.shape[0])


def _reordered(weight: Tensor) -> tuple[Tensor, ...]:
    plain, zeros = _with_zeros(weight)
    return torch.ops.mkldnn._reorder_linear_weight(plain), zeros


def _cut(weight: Tensor) -> tuple[Tensor, ...]:
    wide = weight.float()
    if wide.shape[0] == 1:
        wide = F.pad(wide, (0, 0, 0, 1))
    return tuple(part.contiguous() for part in torch.split(wide, CHAIN_LENGTH, dim=1))


def _reordered_cut(weight: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.ops.mkldnn._reorder_linear_weight(part) for part in _cut(weight))


WHOLE = Policy("whole", _whole, _with_zeros, least_rows=1, pack=_reordered)
PAIRS = Policy("pairs", _whole, _with_zeros, least_rows=2, pack=_reordered, least_packed_rows=2)
CHAIN = Policy("chain", _chain, _cut, least_rows=2, pack=_reordered_cut, widens=True, has_columns=True)
CHAIN_OF_ROWS = replace(CHAIN, name="chain of rows", has_columns=False)
NATIVE = Policy("native", _native, _as_it_is, least_rows=1)
PADDED = tuple(Policy(f"pad{rows}", _native, _as_it_is, least_rows=rows) for rows in (8, 16, 32))
ROW_BY_ROW = Policy("rows", _row_by_row, _as_it_is, least_rows=1)


def policies(dtype: torch.dtype) -> tuple[Policy, ...]:
    """The ways to try for a dtype, in order.

    The order is fixed, not measured, so that two starts on one machine never choose differently. Narrow dtypes begin
    with one call of the library, which is certified where the processor has instructions for them: for a single row or,
    as oneDNN adds a long K of a single row in another order, for two. Without such instructions the chain in
    float32 is also the fastest. Float32 has no native way: it was never seen to be invariant.
    """
    if dtype == torch.float32:
        return (CHAIN, CHAIN_OF_ROWS, *PADDED, ROW_BY_ROW)
    return (WHOLE, PAIRS, CHAIN, NATIVE, *PADDED, ROW_BY_ROW)
