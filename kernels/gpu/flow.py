"""Euler steps of flow matching: float32 inside, every product and sum rounded by itself, one rounding at the end."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase

BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def flow_step_kernel(x, velocity, out, count, dt, BLOCK: tl.constexpr):
    """`x + dt * velocity`."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = places < count
    speed = tl.load(velocity + places, mask=mask, other=0.0).to(tl.float32)
    value = tl.load(x + places, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + places, (speed * dt + value).to(out.dtype.element_ty), mask=mask)


@triton.jit
def guided_flow_step_kernel(x, conditional, unconditional, out, count, dt, guidance, BLOCK: tl.constexpr):
    """`x + dt * (unconditional + guidance * (conditional - unconditional))`."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = places < count
    base = tl.load(unconditional + places, mask=mask, other=0.0).to(tl.float32)
    aim = tl.load(conditional + places, mask=mask, other=0.0).to(tl.float32)
    speed = (aim - base) * guidance + base
    value = tl.load(x + places, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + places, (speed * dt + value).to(out.dtype.element_ty), mask=mask)


def flow_step(x: Tensor, velocity: Tensor, dt: float) -> Tensor:
    """x and velocity of one shape -> like x."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if out.numel():
        flow_step_kernel[(triton.cdiv(out.numel(), BLOCK),)](
            x.contiguous(), velocity.contiguous(), out, out.numel(), dt,
            BLOCK=BLOCK, num_warps=NUM_WARPS, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def guided_flow_step(
    x: Tensor, conditional: Tensor, unconditional: Tensor, dt: float, guidance: float
) -> Tensor:
    """x and both velocities of one shape -> like x."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    if out.numel():
        guided_flow_step_kernel[(triton.cdiv(out.numel(), BLOCK),)](
            x.contiguous(), conditional.contiguous(), unconditional.contiguous(), out, out.numel(), dt, guidance,
            BLOCK=BLOCK, num_warps=NUM_WARPS, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def compile_cases() -> list[CompileCase]:
    """Both steps in bfloat16."""
    return [
        _case("flow_step", flow_step_kernel, ("x", "velocity", "out"), ("dt",)),
        _case(
            "guided_flow_step",
            guided_flow_step_kernel,
            ("x", "conditional", "unconditional", "out"),
            ("dt", "guidance"),
        ),
    ]


def _case(name: str, kernel: object, pointers: tuple[str, ...], factors: tuple[str, ...]) -> CompileCase:
    return CompileCase(
        name=f"{name}/bf16 {BLOCK}",
        kernel=kernel,
        signature={**dict.fromkeys(pointers, "*bf16"), "count": "i32", **dict.fromkeys(factors, "fp32")},
        constexprs={"BLOCK": BLOCK},
        num_warps=NUM_WARPS,
        num_stages=1,
        aligned=("count",),
    )
