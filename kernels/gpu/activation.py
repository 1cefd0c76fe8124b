"""Elementwise activations: every element alone, so its bits depend on neither its place nor its neighbours."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import INTERPRET, ceil_div

BLOCK = 1024
"""Elements per program: eight for each of 128 threads, 16 bytes of bfloat16."""
_WARPS = 4


@triton.jit
def silu_of(x):
    """`x * sigmoid(x)` of float32; exp overflows to infinity for very negative x, and the quotient to -0."""
    return x / (1.0 + tl.exp(-x))


@triton.jit
def silu_kernel(x, out, count, BLOCK: tl.constexpr, INTERPRET: tl.constexpr):
    """BLOCK elements of a contiguous tensor."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = places < count
    value = tl.load(x + places, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + places, silu_of(value).to(out.dtype.element_ty), mask=mask)


@triton.jit
def swiglu_kernel(gate_up, out, width, row_step, BLOCK: tl.constexpr, INTERPRET: tl.constexpr):
    """BLOCK outputs of one row (2 * width) -> (width)."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    gate = tl.load(gate_up + row * row_step + columns, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * row_step + width + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + row * width + columns, (silu_of(gate) * up).to(out.dtype.element_ty), mask=mask)


def silu(x: Tensor) -> Tensor:
    """Any shape, elementwise."""
    values = x.contiguous()
    out = torch.empty_like(values)
    count = values.numel()
    if count:
        silu_kernel[(ceil_div(count, BLOCK),)](
            values, out, count, BLOCK=BLOCK, INTERPRET=INTERPRET,
            num_warps=_WARPS, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def swiglu(gate_up: Tensor) -> Tensor:
    """(..., 2I) -> (..., I): silu of the first half times the second."""
    width = gate_up.shape[-1] // 2
    rows = gate_up.reshape(-1, 2 * width)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    out = torch.empty((len(rows), width), dtype=gate_up.dtype, device=gate_up.device)
    if out.numel():
        swiglu_kernel[(len(rows), ceil_div(width, BLOCK))](
            rows, out, width, rows.stride(0), BLOCK=BLOCK, INTERPRET=INTERPRET,
            num_warps=_WARPS, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out.view(*gate_up.shape[:-1], width)


def compile_cases() -> list[CompileCase]:
    """Both kernels for both dtypes."""
    silus = [_case("silu", silu_kernel, {"x": f"*{d}", "out": f"*{d}", "count": "i32"}, d) for d in _DTYPES]
    swiglus = [
        _case(
            "swiglu",
            swiglu_kernel,
            {"gate_up": f"*{d}", "out": f"*{d}", "width": "i32", "row_step": "i32"},
            d,
        )
        for d in _DTYPES
    ]
    return silus + swiglus


_DTYPES = ("bf16", "fp32")


def _case(name: str, kernel: object, signature: dict[str, str], dtype: str) -> CompileCase:
    return CompileCase(
        name=f"activation_{name}/{dtype}",
        kernel=kernel,
        signature=signature,
        constexprs={"BLOCK": BLOCK, "INTERPRET": False},
        num_warps=_WARPS,
        num_stages=1,
        aligned=tuple(key for key, kind in signature.items() if kind == "i32"),
    )
