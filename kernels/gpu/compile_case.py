"""One configuration of a Triton kernel, described so that it can be compiled on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triton.compiler import ASTSource

ALL_ARCHITECTURES = (80, 90, 100)
"""Compute capabilities times ten: A100, H100 and H200, B200."""


@dataclass(frozen=True)
class CompileCase:
    """What the compiler must be told, and what its result must look like.

    A launch tells the compiler which arguments are equal to one and which are multiples of 16; here the first are
    listed in `constexprs` and the second in `aligned`.
    """

    name: str
    """Unique, as `gemm/bf16 16x32x128`."""
    kernel: Any
    """The function that `triton.jit` returned; it must have been decorated without the interpreter."""
    signature: Mapping[str, str]
    """Types of the arguments in order of the kernel's parameters, as `*bf16`, `i32`, `fp32`, `tensordesc<bf16[128, 64]>`;
    what is missing here must be in `constexprs`."""
    constexprs: Mapping[str, object]
    """Values of `tl.constexpr` parameters, and of integers equal to one."""
    num_warps: int
    num_stages: int
    aligned: Sequence[str] = ()
    """Integers known to be multiples of 16; pointers always are."""
    enable_fp_fusion: bool = False
    architectures: Sequence[int] = ALL_ARCHITECTURES
    """Where the configuration is used."""
    expects_hgmma: bool = False
    """The SASS for `sm_90` must hold Hopper's warpgroup multiply; if false, it must hold none."""
    expects_wide_loads: bool = True
    """The SASS must load 16 bytes at a time from global memory (or copy tiles by TMA)."""
    max_registers: int = 255

    def source(self) -> ASTSource:
        """The input of `triton.compile`; its options are `options()`."""
        names = self.kernel.arg_names
        signature = {name: self.signature.get(name, "constexpr") for name in names}
        missing = [n for n in names if n not in self.signature and n not in self.constexprs]
        if missing:
            raise ValueError(f"{self.name}: parameters {missing!r} have neither a type nor a value")
        attributes = {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if signature[name].startswith("*") or name in self.aligned
        }
        constants = {(names.index(name),): value for name, value in self.constexprs.items()}
        return ASTSource(fn=self.kernel, signature=signature, constexprs=constants, attrs=attributes)

    def options(self) -> dict[str, object]:
        """Options of `triton.compile`."""
        return {
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": self.enable_fp_fusion,
        }
