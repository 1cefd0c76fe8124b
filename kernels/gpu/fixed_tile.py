"""A yardstick: a product with one 128x128x64 tile for every batch, as batch-invariant operators were first published.

Source of the configuration: "Defeating Nondeterminism in LLM Inference" (Thinking Machines, 2025) and the library that
came with it; the kernel is written anew from that description. Persistent programs take tiles in groups of eight rows.
Our own operators do not use it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.dot import add_product, empty_sum, tile_place
from microturn.kernels.gpu.launch import INTERPRET, ceil_div, processors

TILE = {"ROWS": 128, "COLUMNS": 128, "DEPTH": 64, "GROUP": 8}
WARPS = 8
STAGES = 3


@triton.jit
def fixed_tile_kernel(
    x, weight, out, M, N, K, x_row, weight_row, out_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """`out (M, N) = x (M, K) @ weight (N, K).T`, each program computing every `num_programs`-th tile."""
    row_tiles = tl.cdiv(M, ROWS)
    column_tiles = tl.cdiv(N, COLUMNS)
    inner = tl.arange(0, DEPTH)
    for tile in tl.range(tl.program_id(0), row_tiles * column_tiles, tl.num_programs(0), flatten=True):
        row_tile, column_tile = tile_place(tile, row_tiles, column_tiles, GROUP)
        rows = row_tile * ROWS + tl.arange(0, ROWS)
        columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
        x_place = x + rows.to(tl.int64)[:, None] * x_row + inner[None, :]
        weight_place = weight + columns.to(tl.int64)[:, None] * weight_row + inner[None, :]
        total = empty_sum(ROWS, COLUMNS, False)
        for start in range(0, K, DEPTH):
            inside = (inner < K - start)[None, :]
            part = tl.load(x_place + start, mask=(rows < M)[:, None] & inside, other=0.0)
            other = tl.load(weight_place + start, mask=(columns < N)[:, None] & inside, other=0.0)
            total = add_product(total, part, other, False, INTERPRET)
        place = out + rows.to(tl.int64)[:, None] * out_row + columns[None, :]
        tl.store(place, total.to(out.dtype.element_ty), mask=(rows < M)[:, None] & (columns < N)[None, :])


def fixed_tile_linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x (M, K) @ weight (N, K).T`, (M, N) in the dtype of x; both contiguous in K."""
    (m, k), n = x.shape, weight.shape[0]
    out = torch.empty((m, n), dtype=x.dtype, device=x.device)
    tiles = ceil_div(m, TILE["ROWS"]) * ceil_div(n, TILE["COLUMNS"])
    fixed_tile_kernel[(min(tiles, processors(x.device)),)](
        x, weight, out, m, n, k, x.stride(0), weight.stride(0), out.stride(0),
        **TILE, INTERPRET=INTERPRET, num_warps=WARPS, num_stages=STAGES, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def compile_cases() -> list[CompileCase]:
    """The one configuration."""
    integers = ("M", "N", "K", "x_row", "weight_row", "out_row")
    return [
        CompileCase(
            name="fixed_tile/bf16 128x128x64",
            kernel=fixed_tile_kernel,
            signature={**dict.fromkeys(("x", "weight", "out"), "*bf16"), **dict.fromkeys(integers, "i32")},
            constexprs={**TILE, "INTERPRET": False},
            num_warps=WARPS,
            num_stages=STAGES,
            aligned=integers[1:],
            expects_hgmma=True,
        )
    ]
