"""Kernels that the compile gate must refuse, each for one reason, and one that it must let pass; prints the verdicts."""

# Inside a kernel every value is a handle of Triton's compiler, and its decorator carries no types.
# mypy: disable-error-code="untyped-decorator, no-untyped-def"

from __future__ import annotations

import json
import sys
from typing import Any

import triton
import triton.language as tl

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.tune.compile_gate import check, one_per_kernel

HOPPER = 90


@triton.jit
def scale(x, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + places, tl.load(x + places, mask=places < count) * 2.0, mask=places < count)


@triton.jit
def add_atomically(x, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out, tl.sum(tl.load(x + places, mask=places < count, other=0.0), axis=0))


@triton.jit
def count_atomically(x, out, count, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(out, tl.sum(tl.load(x + places, mask=places < count, other=0), axis=0))


@triton.jit
def divide_by_sum(x, out, count, BLOCK: tl.constexpr):
    places = tl.arange(0, BLOCK)
    value = tl.load(x + places, mask=places < count, other=0.0)
    tl.store(out + places, value / tl.sum(value, axis=0), mask=places < count)


@triton.jit
def multiply(x, weight, out, depth, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):
    row, column, inner = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for begin in range(0, depth, DEPTH):
        a = tl.load(x + row[:, None] * depth + begin + inner[None, :])
        b = tl.load(weight + column[None, :] * depth + begin + inner[:, None])
        total = tl.dot(a, b, total, input_precision="ieee")
    tl.store(out + row[:, None] * COLUMNS + column[None, :], total)


def _row_case(name: str, kernel: Any, block: int = 1024, kind: str = "fp32", **changes: Any) -> CompileCase:
    return CompileCase(
        name=name,
        kernel=kernel,
        signature={"x": f"*{kind}", "out": f"*{kind}", "count": "i32"},
        constexprs={"BLOCK": block},
        **{"num_warps": 4, "num_stages": 1, "aligned": ("count",), **changes},
    )


def _product_case(name: str, rows: int, depth: int, *, expects_hgmma: bool) -> CompileCase:
    return CompileCase(
        name=name,
        kernel=multiply,
        signature={"x": "*bf16", "weight": "*bf16", "out": "*fp32", "depth": "i32"},
        constexprs={"ROWS": rows, "COLUMNS": 128, "DEPTH": depth},
        num_warps=8,
        num_stages=4,
        aligned=("depth",),
        expects_hgmma=expects_hgmma,
    )


CASES = (
    _row_case("sound", scale),
    _row_case("integer atomic", count_atomically, kind="i32"),
    _row_case("float atomic", add_atomically),
    _row_case("spilling", divide_by_sum, block=8192, num_warps=1),
    _row_case("narrow", scale, aligned=()),
    _row_case("over its cap", scale, max_registers=4),
    _row_case("no power of two", scale, block=3),
    _product_case("too large", 128, 256, expects_hgmma=True),
    _product_case("other instruction", 16, 64, expects_hgmma=True),
)

if __name__ == "__main__":
    verdicts = {case.name: check(case, HOPPER).breaches for case in CASES}
    picked = [case.name for case in one_per_kernel(CASES)]
    sys.stdout.write(json.dumps({"breaches": verdicts, "picked": picked}))
