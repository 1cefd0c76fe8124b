"""Softmax and log-softmax over the last dimension: one program per row, in blocks that depend on the width alone."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import INTERPRET, power_of_two, whole_rows
from microturn.kernels.gpu.lm_head import compile_cases as lm_head_compile_cases
from microturn.kernels.gpu.lm_head import lm_head_argmax, lm_head_logprob

__all__ = ("compile_cases", "lm_head_argmax", "lm_head_logprob", "log_softmax", "softmax")

MAX_BLOCK = 4096
"""A wider row is read block by block."""


@triton.jit
def softmax_kernel(x, out, width, IS_LOG: tl.constexpr, BLOCK: tl.constexpr, INTERPRET: tl.constexpr):
    """One row: its maximum, which no order changes; the sum, one partial sum per lane; the quotients."""
    row = tl.program_id(0).to(tl.int64)
    source = x + row * width
    lanes = tl.arange(0, BLOCK)
    largest = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + lanes
        value = tl.load(source + columns, mask=columns < width, other=float("-inf")).to(tl.float32)
        largest = tl.maximum(largest, value, propagate_nan=tl.PropagateNan.ALL)
    shift = tl.max(largest, axis=0)
    partial = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + lanes
        value = tl.load(source + columns, mask=columns < width, other=float("-inf")).to(tl.float32)
        partial += tl.exp(value - shift)
    total = tl.sum(partial, axis=0)
    for start in range(0, width, BLOCK):
        columns = start + lanes
        value = tl.load(source + columns, mask=columns < width, other=float("-inf")).to(tl.float32)
        result = (value - shift) - tl.log(total) if IS_LOG else tl.exp(value - shift) / total
        tl.store(out + row * width + columns, result.to(out.dtype.element_ty), mask=columns < width)


def softmax(x: Tensor) -> Tensor:
    """x (..., C) -> like x."""
    return _over_rows(x, is_log=False)


def log_softmax(x: Tensor) -> Tensor:
    """x (..., C) -> like x."""
    return _over_rows(x, is_log=True)


def _over_rows(x: Tensor, *, is_log: bool) -> Tensor:
    rows = whole_rows(x)
    out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    if out.numel():
        softmax_kernel[(len(rows),)](
            rows,
            out,
            rows.shape[1],
            IS_LOG=is_log,
            INTERPRET=INTERPRET,
            **_options(rows.shape[1]),
        )
    return out.view(x.shape)


def _options(width: int) -> dict[str, Any]:
    """The shape of the tree, from the width alone."""
    block = min(MAX_BLOCK, power_of_two(width))
    return {
        "BLOCK": block,
        "num_warps": max(1, block // 512),
        "num_stages": 1,
        "enable_fp_fusion": False,
    }


def compile_cases() -> list[CompileCase]:
    """Softmax of scores and of a vocabulary, and the language model's head."""
    own = [
        _case(width, is_log=is_log, dtype=dtype)
        for width in (512, MAX_BLOCK)
        for is_log in (False, True)
        for dtype in ("bf16", "fp32")
    ]
    return own + lm_head_compile_cases()


def _case(width: int, *, is_log: bool, dtype: str) -> CompileCase:
    options = _options(width)
    return CompileCase(
        name=f"softmax/{dtype} {width}{' log' if is_log else ''}",
        kernel=softmax_kernel,
        signature={"x": f"*{dtype}", "out": f"*{dtype}", "width": "i32"},
        constexprs={"IS_LOG": is_log, "BLOCK": options["BLOCK"], "INTERPRET": False},
        num_warps=options["num_warps"],
        num_stages=options["num_stages"],
        aligned=("width",),
    )
