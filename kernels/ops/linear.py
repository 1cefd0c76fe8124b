"""Linears and matrix products: a row's bits depend on that row and the weight alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import linear as cpu
from microturn.kernels.library import define

_linear = define(
    "linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor",
    cpu=cpu.linear,
    gpu="gemm:linear",
    fake=lambda x, weight, bias=None: x.new_empty((*x.shape[:-1], weight.shape[0])),
)
_linear_shards = define(
    "linear_shards(Tensor x, Tensor weight, int shards) -> Tensor",
    cpu=cpu.linear_shards,
    gpu="gemm:linear_shards",
    fake=lambda x, weight, shards: x.new_empty((shards, x.shape[0], weight.shape[0]), dtype=torch.float32),
)
_matmul = define(
    "matmul(Tensor a, Tensor b) -> Tensor",
    cpu=cpu.matmul,
    gpu="gemm:matmul",
    fake=lambda a, b: a.new_empty((a.shape[0], b.shape[1])),
)
_bmm = define(
    "bmm(Tensor a, Tensor b) -> Tensor",
    cpu=cpu.bmm,
    gpu="gemm:bmm",
    fake=lambda a, b: a.new_empty((a.shape[0], a.shape[1], b.shape[2])),
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`, summed in float32, the bias added after the sum, rounded once.

    On the CPU the first call of a shape probes how to compute it (`certify_linears` does it beforehand), and a
    weight that was given to `prepare_linears` is up to five times faster for few rows.

    Args:
        x: `(..., K)`, float32, bfloat16 or float16, K at least 1.
        weight: `(N, K)`, the dtype of `x`, N at least 1.
        bias: `(N,)`, the dtype of `x`.

    Returns:
        `(..., N)`, the dtype of `x`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
        NoInvariantPolicyError: on this processor every way gives other bits in other batches.
    """
    dtype, shape, form = x.dtype, x.shape, weight.shape  # each costs a tenth of a microsecond to ask for
    if dtype not in cpu.TYPES or not shape or shape[-1] == 0:
        raise _wrong("linear", "x", "(..., K) of float32, bfloat16 or float16 with K at least 1", x)
    if weight.dtype != dtype or len(form) != 2 or form[1] != shape[-1] or not form[0]:
        raise _wrong("linear", "weight", f"(N, {shape[-1]}) of {dtype} with N at least 1", weight)
    if bias is not None and (bias.shape != form[:1] or bias.dtype != dtype):
        raise _wrong("linear", "bias", f"({form[0]},) of {dtype}", bias)
    result: Tensor = _linear(x, weight, bias)
    return result


def linear_shards(x: Tensor, weight: Tensor, shards: int) -> Tensor:
    """The partial sums of `x @ weight.T` over equal parts of K, for a row-parallel linear on any number of processes.

    Args:
        x: `(T, K)`, float32, bfloat16 or float16.
        weight: `(N, K)`, the dtype of `x`, N at least 1.
        shards: how many parts; divides K.

    Returns:
        `(shards, T, N)` float32, to be added in the order of shards.

    Raises:
        BadShapeError: the shapes or dtypes do not fit, or `shards` does not divide K.
        NoInvariantPolicyError: on this processor every way gives other bits in other batches.
    """
    _expect_matrix("linear_shards", "x", x)
    if weight.dtype != x.dtype or weight.dim() != 2 or weight.shape[1] != x.shape[1] or not weight.shape[0]:
        raise _wrong("linear_shards", "weight", f"(N, {x.shape[1]}) of {x.dtype} with N at least 1", weight)
    if shards < 1 or x.shape[1] % shards:
        expected = f"a divisor of {x.shape[1]}, the width of x"
        raise BadShapeError("linear_shards", "shards", expected=expected, got=shards)
    result: Tensor = _linear_shards(x, weight, shards)
    return result


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b`, summed in float32 and rounded once.

    Args:
        a: `(M, K)`, float32, bfloat16 or float16, K at least 1.
        b: `(K, N)`, the dtype of `a`, N at least 1.

    Returns:
        `(M, N)`, the dtype of `a`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
        NoInvariantPolicyError: on this processor every way gives other bits in other batches.
    """
    _expect_matrix("matmul", "a", a)
    if b.dtype != a.dtype or b.dim() != 2 or b.shape[0] != a.shape[1] or not b.shape[1]:
        raise _wrong("matmul", "b", f"({a.shape[1]}, N) of {a.dtype} with N at least 1", b)
    result: Tensor = _matmul(a, b)
    return result


def bmm(a: Tensor, b: Tensor) -> Tensor:
    """`a[i] @ b[i]` for each i, summed in float32 and rounded once.

    Args:
        a: `(B, M, K)`, float32, bfloat16 or float16, K at least 1.
        b: `(B, K, N)`, the dtype of `a`, N at least 1.

    Returns:
        `(B, M, N)`, the dtype of `a`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
        NoInvariantPolicyError: on this processor every way gives other bits in other batches.
    """
    if a.dtype not in cpu.TYPES or a.dim() != 3 or not a.shape[2]:
        raise _wrong("bmm", "a", "(B, M, K) of float32, bfloat16 or float16 with K at least 1", a)
    if b.dtype != a.dtype or b.dim() != 3 or b.shape[:2] != (a.shape[0], a.shape[2]) or not b.shape[2]:
        raise _wrong("bmm", "b", f"({a.shape[0]}, {a.shape[2]}, N) of {a.dtype} with N at least 1", b)
    result: Tensor = _bmm(a, b)
    return result


def certify_linears(shapes: Iterable[tuple[torch.dtype, int, int]]) -> None:
    """Find how to compute linears on this CPU now, so that no later call has to; kept on disk.

    Args:
        shapes: `(dtype, K, N)` of each weight, for the present number of threads.

    Raises:
        NoInvariantPolicyError: every way to compute one of them gives other bits in other batches.
    """
    cpu.certify_linears(shapes)


def prepare_linears(weights: Iterable[Tensor], rows: Iterable[int] = (1, 4, 50)) -> int:
    """Make linears on the CPU fast: probe each weight's shape, keep a packed copy of it, and compute once.

    The bits stay the same. It takes as much memory as the weights once more, and for float32, whose single rows are
    computed another way, twice more; so it does for bfloat16 on a processor without instructions for it. A copy is
    dropped when its weight dies, and not used once PyTorch says that the weight was changed.

    Args:
        weights: each `(N, K)`, or `(E, N, K)` of experts, contiguous, on the CPU. Their numbers must not be changed
            through `.data` or, if they were made in inference mode, at all: PyTorch does not tell of it.
        rows: how many rows the calls will have that must not wait for oneDNN to make its machine code.

    Returns:
        How many matrices are packed now.

    Raises:
        NoInvariantPolicyError: every way to compute one of them gives other bits in other batches.
    """
    return cpu.prepare_linears(weights, rows)


def _expect_matrix(operator: str, name: str, given: Tensor) -> None:
    if given.dtype not in cpu.TYPES or given.dim() != 2 or not given.shape[1]:
        raise _wrong(operator, name, "a matrix of float32, bfloat16 or float16 with K at least 1", given)


def _wrong(operator: str, parameter: str, expected: str, given: Tensor) -> BadShapeError:
    return BadShapeError(operator, parameter, expected=expected, got=(given.dtype, *given.shape))
