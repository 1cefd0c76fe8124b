"""Batch-invariant bodies of PyTorch's own operators, for `aten_overrides`.

Each takes the native kernel first and then the operator's arguments. Only what `row_evidence` found to be variant is
here: products of matrices and convolutions, elementwise functions whose vector path and scalar path round otherwise,
and reductions along dimensions that are not innermost. Inside an override PyTorch's own operators are the native ones,
so `torch.mm` may be handed on as a native kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from microturn.kernels.aten_attention import dense_attention
from microturn.kernels.library import current_backend
from microturn.kernels.ops import activation, linear, norm, softmax

Native: TypeAlias = Callable[..., Any]

TILE = 16
"""Rows and columns of float64 are padded to multiples of it. With rows alone MKL still took other paths for what was
left of the columns; with both no difference was found for 1 to 3 threads."""
_KERNEL_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_ROW_TYPES = (torch.float32, torch.bfloat16)
_TAPS = 16
"""Grouped convolutions with at most so many weights per output are summed tap by tap; our choice."""


def _has_kernel(x: Tensor) -> bool:
    """Whether reductions of this tensor go to Triton; PyTorch's on the CPU are invariant along the last dimension."""
    return x.is_cuda or current_backend() == "interpreter"


def mm(native: Native, a: Tensor, b: Tensor) -> Tensor:
    """`a (M, K) @ b (K, N)`."""
    if not _fit(a, b):
        return native(a, b)  # type: ignore[no-any-return]  # a native kernel is untyped
    if a.dtype == torch.float64:
        return _padded(native, a, b)
    if not b.is_contiguous() and b.t().is_contiguous():
        return linear.linear(a, b.t())
    return linear.matmul(a, b)


def _fit(a: Tensor, b: Tensor) -> bool:
    """Whether two factors have a product that is rounded; for others the native kernel is exact, or has an error to tell."""
    known = a.dtype == b.dtype and (a.dtype in _KERNEL_TYPES or a.dtype == torch.float64)
    return known and a.shape[-1] == b.shape[-2] and a.shape[:-2] == b.shape[:-2] and a.numel() * b.numel() > 0


def addmm(native: Native, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * bias + alpha * (a @ b)`, rounded once."""
    if not _fit(a, b):
        return native(bias, a, b, beta=beta, alpha=alpha)  # type: ignore[no-any-return]  # as above
    plain = beta == 1 and alpha == 1 and a.dtype != torch.float64
    if plain and bias.dim() == 1 and bias.dtype == a.dtype and len(bias) == b.shape[1]:
        return linear.linear(a, b.t(), bias)
    product = mm(torch.mm, _wide(a), _wide(b))
    return _scaled_sum(bias, beta, product, alpha).to(a.dtype)


def bmm(native: Native, a: Tensor, b: Tensor) -> Tensor:
    """`a (B, M, K) @ b (B, K, N)`."""
    if not _fit(a, b):
        return native(a, b)  # type: ignore[no-any-return]  # a native kernel is untyped
    return _padded(native, a, b) if a.dtype == torch.float64 else linear.bmm(a, b)


def baddbmm(
    native: Native, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """`beta * bias + alpha * (a @ b)` for batches, rounded once."""
    if not _fit(a, b):
        return native(bias, a, b, beta=beta, alpha=alpha)  # type: ignore[no-any-return]  # as above
    product = bmm(torch.bmm, _wide(a), _wide(b))
    return _scaled_sum(bias, beta, product, alpha).to(a.dtype)


def mv(native: Native, a: Tensor, x: Tensor) -> Tensor:
    """`a (M, K) @ x (K)`."""
    if x.dim() != 1 or not _fit(a, x.unsqueeze(1)):
        return native(a, x)  # type: ignore[no-any-return]  # as above
    return mm(torch.mm, a, x.unsqueeze(1)).squeeze(1)


def addmv(native: Native, bias: Tensor, a: Tensor, x: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * bias + alpha * (a @ x)`, rounded once."""
    if x.dim() != 1 or not _fit(a, x.unsqueeze(1)):
        return native(bias, a, x, beta=beta, alpha=alpha)  # type: ignore[no-any-return]  # as above
    return _scaled_sum(bias, beta, mv(torch.mv, _wide(a), _wide(x)), alpha).to(a.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.is_floating_point() else x


def _scaled_sum(bias: Tensor, beta: float, product: Tensor, alpha: float) -> Tensor:
    # A beta of 0 stands for no bias at all: what it holds, even not-a-number, must not come through.
    scaled = product * alpha if alpha != 1 else product
    return scaled if beta == 0 else bias.to(product.dtype) * beta + scaled


def _padded(native: Native, a: Tensor, b: Tensor) -> Tensor:
    """The native product with rows and columns filled up."""
    rows, columns = a.shape[-2], b.shape[-1]
    tall = F.pad(a, (0, 0, 0, -rows % TILE)).contiguous()
    wide = F.pad(b, (0, -columns % TILE)).contiguous()
    return native(tall, wide)[..., :rows, :columns].contiguous()  # type: ignore[no-any-return]  # as above


def convolution(
    native: Native,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    """A convolution of any number of spatial dimensions as a product of windows and weights.

    Transposed convolutions, and channels that do not fit, are left to the native kernel.
    """
    if transposed or not x.is_floating_point() or x.shape[1] != weight.shape[1] * groups:
        return native(  # type: ignore[no-any-return]  # a native kernel is untyped
            x, weight, bias, stride, padding, dilation, transposed, output_padding, groups
        )
    dims = weight.dim() - 2
    windows = _windows(x, weight.shape[2:], *(_each(value, dims) for value in (stride, padding, dilation)))
    shape = (windows.shape[0], *windows.shape[2 : 2 + dims])
    order = (0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims))
    rows = windows.permute(order).reshape(math.prod(shape), groups, -1)
    out = _grouped_products(rows, weight.reshape(groups, weight.shape[0] // groups, -1))
    if bias is not None:
        out = out + bias.to(out.dtype)
    out = out.to(x.dtype).reshape(*shape, -1)
    return out.permute(0, dims + 1, *range(1, dims + 1)).contiguous()


def _each(value: Sequence[int], dims: int) -> list[int]:
    """One number per spatial dimension; a single number stands for all of them."""
    return list(value) * dims if len(value) == 1 else list(value)


def _windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """(B, C, *out, *kernel): what each output looks at."""
    x = F.pad(x, [side for amount in reversed(padding) for side in (amount, amount)]).contiguous()
    spatial = zip(x.shape[2:], kernel, stride, dilation, strict=True)
    out = [(size - reach * (taps - 1) - 1) // step + 1 for size, taps, step, reach in spatial]
    inner = x.stride()[2:]
    strides = [here * step for here, step in zip(inner, stride, strict=True)]
    reaches = [here * reach for here, reach in zip(inner, dilation, strict=True)]
    return x.as_strided((*x.shape[:2], *out, *kernel), (*x.stride()[:2], *strides, *reaches))


def _grouped_products(rows: Tensor, weight: Tensor) -> Tensor:
    """rows (M, groups, K) times weight (groups, N, K): (M, groups * N), at least float32."""
    rows, weight = _wide(rows), _wide(weight)
    groups, outputs, inner = weight.shape
    if groups == 1:
        return mm(torch.mm, rows[:, 0], weight[0].t())
    if inner > _TAPS:
        product = bmm(torch.bmm, rows.transpose(0, 1).contiguous(), weight.transpose(1, 2))
        return product.transpose(0, 1).reshape(len(rows), -1)
    total = rows.new_zeros(len(rows), groups, outputs)
    for tap in range(inner):
        total = total + rows[:, :, tap, None] * weight[:, :, tap]
    return total.reshape(len(rows), -1)


def silu(native: Native, x: Tensor) -> Tensor:
    """`x * sigmoid(x)`."""
    return activation.silu(x) if x.dtype in _ROW_TYPES else strided(native, x)


def sigmoid(native: Native, x: Tensor) -> Tensor:
    """`1 / (1 + exp(-x))`; PyTorch rounds the last elements of a tensor otherwise than those before."""
    if not x.is_floating_point():
        return native(x)  # type: ignore[no-any-return]  # a native kernel is untyped
    return (1 / (1 + torch.exp(-_wide(x).contiguous()))).to(x.dtype)


def gelu(native: Native, x: Tensor, *, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit, by erf or by tanh, which are position-independent on contiguous tensors."""
    wide = _wide(x).contiguous()
    if approximate == "none":
        curve = torch.erf(wide * math.sqrt(0.5))
    else:
        curve = torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * (wide * wide * wide)))
    return (0.5 * wide * (1 + curve)).to(x.dtype)


def strided(native: Native, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """An elementwise function on a tensor with gaps: PyTorch then takes its scalar path for every element.

    On a tensor without gaps it takes the vector path for most and the scalar path for the last few, and the two
    round differently, so that an element's bits would depend on its position.
    """
    if not x.is_floating_point() or not x.numel():
        return native(x, *args, **kwargs)  # type: ignore[no-any-return]  # a native kernel is untyped
    gaps = x.new_empty(x.numel(), 2)[:, 0].copy_(x.reshape(-1))
    return native(gaps, *args, **kwargs).reshape(x.shape)  # type: ignore[no-any-return]  # as above


def _softmax(operator: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def body(native: Native, x: Tensor, dim: int, half_to_float: bool) -> Tensor:
        rows = x.movedim(dim, -1).contiguous() if x.dim() else x
        if _has_kernel(x) and x.dtype in _KERNEL_TYPES:
            result = operator(_wide(rows)).to(torch.float32 if half_to_float else x.dtype)
        else:
            result = native(rows, -1, half_to_float)
        return result.movedim(-1, dim).contiguous() if x.dim() else result

    return body


softmax_of_any_dimension = _softmax(lambda x: softmax.softmax(x))
log_softmax_of_any_dimension = _softmax(lambda x: softmax.log_softmax(x))


def mean(
    native: Native,
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The mean over any dimensions."""
    rows, shape = _rows_to_reduce(x if dtype is None else x.to(dtype), dim, keepdim)
    if _has_kernel(x) and rows.dtype in _KERNEL_TYPES:
        return norm.mean(_wide(rows)).to(rows.dtype).reshape(shape)
    return _reduced(native, rows).reshape(shape)


def total(
    native: Native,
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The sum over any dimensions."""
    if not x.is_floating_point():
        return native(x, dim, keepdim, dtype=dtype)  # type: ignore[no-any-return]  # a native kernel is untyped
    rows, shape = _rows_to_reduce(x if dtype is None else x.to(dtype), dim, keepdim)
    summed = _halved(rows) if _has_kernel(x) else _reduced(native, rows)
    return summed.reshape(shape)


def _rows_to_reduce(x: Tensor, dim: Sequence[int] | None, keepdim: bool) -> tuple[Tensor, list[int]]:
    """Rows (M, C) with what is to be reduced in C, and the shape of the result."""
    dims = sorted({index % max(x.dim(), 1) for index in (dim or range(x.dim()))})
    kept = [index for index in range(x.dim()) if index not in dims]
    reduced = math.prod(x.shape[index] for index in dims)
    rows = x.permute(*kept, *dims).reshape(-1, reduced) if reduced else x.new_zeros(0, 0)
    if not reduced:
        rows = x.new_zeros(math.prod(x.shape[index] for index in kept), 0)
    shape = [1 if index in dims else x.shape[index] for index in range(x.dim()) if keepdim or index in kept]
    return rows.contiguous(), shape


def _reduced(native: Native, rows: Tensor) -> Tensor:
    # A single long row would be cut between the threads; with a second row each thread has its own.
    if len(rows) == 1:
        return native(torch.cat([rows, torch.zeros_like(rows)]), [1])[:1]  # type: ignore[no-any-return]  # untyped
    return native(rows, [1])  # type: ignore[no-any-return]  # as above


def _halved(rows: Tensor) -> Tensor:
    """Sums of rows (M, C) by adding the right half to the left one until one column is left."""
    wide = _wide(rows)
    wide = F.pad(wide, (0, (1 << max(wide.shape[1] - 1, 0).bit_length()) - wide.shape[1]))
    while wide.shape[1] > 1:
        left, right = wide.chunk(2, dim=1)
        wide = left + right
    return wide.to(rows.dtype)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention whose key 0 is at position 0. Of differentiable operators, so it needs no gradient of its own."""
    parts = [_four_dimensions(part) for part in (query, key, value)]
    batch = max(len(part) for part in parts)
    wide = (part.expand(batch, -1, -1, -1) for part in parts)
    mask = None if attn_mask is None else _four_dimensions(attn_mask)
    out = dense_attention(*wide, mask=mask, is_causal=is_causal, dropout=dropout_p, scale=scale)
    shape = (*query.shape[:-1], value.shape[-1])
    return out.reshape(shape) if out.numel() == math.prod(shape) else out


def _four_dimensions(x: Tensor) -> Tensor:
    return x.flatten(0, -4) if x.dim() > 4 else x[(None,) * (4 - x.dim())]
