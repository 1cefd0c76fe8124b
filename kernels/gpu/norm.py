"""Norms and means over the last dimension: one program per row, float32, a tree that depends on the width alone."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import INTERPRET, power_of_two, whole_rows

WIDTHS = (128, 1024, 2048, 4096)
"""Widths that are compiled by the gate: a head, small models, Inkling-Small."""

_ELEMENTS_PER_WARP = 512
_MAX_WARPS = 16


@triton.jit
def rms_norm_kernel(x, weight, out, width, eps, BLOCK: tl.constexpr, INTERPRET: tl.constexpr):
    """`weight * round(x / rms(x))`, as Inkling rounds."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    value = tl.load(x + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    scaled = _normalised(value, width, eps).to(out.dtype.element_ty).to(tl.float32)
    result = tl.load(weight + columns, mask=mask, other=0.0).to(tl.float32) * scaled
    tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def add_rms_norm_kernel(
    x, residual, weight, out, total, width, eps, BLOCK: tl.constexpr, INTERPRET: tl.constexpr
):  # fmt: skip
    """The sum, rounded, and the norm of what was stored."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    value = tl.load(x + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(residual + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    rounded = value.to(out.dtype.element_ty)
    tl.store(total + row * width + columns, rounded, mask=mask)
    scaled = _normalised(rounded.to(tl.float32), width, eps).to(out.dtype.element_ty).to(tl.float32)
    result = tl.load(weight + columns, mask=mask, other=0.0).to(tl.float32) * scaled
    tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def adaptive_rms_norm_kernel(
    x, shift, scale, out, width, eps, BLOCK: tl.constexpr, INTERPRET: tl.constexpr
):  # fmt: skip
    """`x / rms(x) * (1 + scale) + shift`, rounded once."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    value = tl.load(x + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    factor = 1.0 + tl.load(scale + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    offset = tl.load(shift + row * width + columns, mask=mask, other=0.0).to(tl.float32)
    result = _normalised(value, width, eps) * factor + offset
    tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=mask)


@triton.jit
def mean_kernel(x, out, width, BLOCK: tl.constexpr, INTERPRET: tl.constexpr):
    """The mean of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    value = tl.load(x + row * width + columns, mask=columns < width, other=0.0).to(tl.float32)
    tl.store(out + row, (tl.sum(value, axis=0) / width).to(out.dtype.element_ty))


@triton.jit
def _normalised(value, width, eps):
    return value * tl.rsqrt(tl.sum(value * value, axis=0) / width + eps)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., C), weight (C) -> like x."""
    rows = whole_rows(x)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    if out.numel():
        rms_norm_kernel[(len(rows),)](
            rows, weight.contiguous(), out, rows.shape[1], eps, **_options(rows.shape[1])
        )
    return out.view(x.shape)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x and residual (..., C), weight (C) -> the norm of their sum, and the sum."""
    rows, others = whole_rows(x), whole_rows(residual)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    total = torch.empty_like(out)
    if out.numel():
        add_rms_norm_kernel[(len(rows),)](
            rows, others, weight.contiguous(), out, total,
            rows.shape[1], eps, **_options(rows.shape[1]),
        )  # fmt: skip
    return out.view(x.shape), total.view(x.shape)


def adaptive_rms_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """x, shift and scale (T, C) -> (T, C)."""
    rows, shifts, scales = whole_rows(x), whole_rows(shift), whole_rows(scale)
    out = torch.empty_like(rows, memory_format=torch.contiguous_format)
    if out.numel():
        adaptive_rms_norm_kernel[(len(rows),)](
            rows, shifts, scales, out,
            rows.shape[1], eps, **_options(rows.shape[1]),
        )  # fmt: skip
    return out.view(x.shape)


def mean(x: Tensor) -> Tensor:
    """x (..., C) -> (...)."""
    rows = whole_rows(x)
    out = torch.empty(len(rows), dtype=x.dtype, device=x.device)
    if out.numel():
        mean_kernel[(len(rows),)](rows, out, rows.shape[1], **_options(rows.shape[1]))
    return out.view(x.shape[:-1])


def _options(width: int) -> dict[str, Any]:
    """The shape of the tree, from the width alone."""
    block = power_of_two(width)
    warps = min(_MAX_WARPS, max(1, block // _ELEMENTS_PER_WARP))
    return {
        "BLOCK": block,
        "INTERPRET": INTERPRET,
        "num_warps": warps,
        "num_stages": 1,
        "enable_fp_fusion": False,
    }


def compile_cases() -> list[CompileCase]:
    """Every kernel at the usual widths."""
    return [case for width in WIDTHS for dtype in ("bf16", "fp32") for case in _cases(width, dtype)]


def _cases(width: int, dtype: str) -> list[CompileCase]:
    matrix, row = f"*{dtype}", "i32"
    return [
        _case("rms_norm", rms_norm_kernel, width, dtype,
              {"x": matrix, "weight": matrix, "out": matrix, "width": row, "eps": "fp32"}),
        _case("add_rms_norm", add_rms_norm_kernel, width, dtype,
              {"x": matrix, "residual": matrix, "weight": matrix, "out": matrix, "total": matrix,
               "width": row, "eps": "fp32"}),
        _case("adaptive_rms_norm", adaptive_rms_norm_kernel, width, dtype,
              {"x": matrix, "shift": matrix, "scale": matrix, "out": matrix,
               "width": row, "eps": "fp32"}),
        _case("mean", mean_kernel, width, dtype, {"x": matrix, "out": matrix, "width": row}),
    ]  # fmt: skip


def _case(name: str, kernel: Any, width: int, dtype: str, signature: dict[str, str]) -> CompileCase:
    options = _options(width)
    return CompileCase(
        name=f"norm_{name}/{dtype} {width}",
        kernel=kernel,
        signature=signature,
        constexprs={"BLOCK": options["BLOCK"], "INTERPRET": False},
        num_warps=options["num_warps"],
        num_stages=options["num_stages"],
        aligned=tuple(key for key, kind in signature.items() if kind == "i32"),
        expects_wide_loads=width >= 1024,
    )
