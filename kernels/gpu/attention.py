"""Attention over paged keys on the GPU: chooses a kernel by sizes alone, and no bit depends on the choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from microturn.kernels.gpu.attention_kernels import combine_kernel, fused_kernel, split_kernel
from microturn.kernels.gpu.compile_case import ALL_ARCHITECTURES, CompileCase
from microturn.kernels.gpu.launch import INTERPRET, TYPE_NAMES, power_of_two, processors
from microturn.kernels.gpu.tuning import MmaClass, architecture, mma_class
from microturn.kernels.spec import GPU_SPLIT

KEY_BLOCK = 32
"""Keys per step of the online softmax. It fixes bits: both kernels and every configuration use it.

Our choice: with 64, the kernel for many queries needs more registers than there are."""

WORKSPACE_LIMIT_BYTES = 64 * 2**20
"""Above it the kernel for many queries runs, whose state stays in registers. Our choice."""

HOPPER = 90
"""The first architecture with a warpgroup instruction."""

COMBINE_UNROLL = 8
"""Splits whose states are loaded together before they are folded one by one. Our choice; no bit depends on it."""


@dataclass(frozen=True)
class RowTile:
    """How many query rows one program takes, and with how many warps; no bit depends on it within one class of MMA."""

    rows: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Call:
    """The arguments of one call, and what both kernels derive from them."""

    q: Tensor
    keys: Tensor
    values: Tensor
    page_table: Tensor
    starts: Tensor
    lengths: Tensor
    scale: float
    window: int
    sinks: int
    distance_bias: Tensor | None

    def heads(self, tile: RowTile) -> int:
        """Query heads of one group that a program takes."""
        return min(self.q.shape[1] // self.keys.shape[1], tile.rows)

    def tokens(self, tile: RowTile) -> int:
        """Tokens that a program takes."""
        return tile.rows // self.heads(tile)

    def grid(self, tile: RowTile) -> tuple[int, int]:
        """Blocks of tokens, enough for any boundaries of the sessions, and parts of the heads."""
        tokens, sessions = self.tokens(tile), self.lengths.shape[0]
        blocks = self.q.shape[0] if tokens == 1 else self.q.shape[0] // tokens + sessions
        group = self.q.shape[1] // self.keys.shape[1]
        return blocks, self.keys.shape[1] * -(-group // self.heads(tile))

    def slots(self, tile: RowTile) -> int:
        """A bound on the splits that one block of rows sees, from sizes that the host knows."""
        held = GPU_SPLIT.count(self.page_table.shape[1] * self.keys.shape[2])
        if self.window == 0:
            return held
        # The keys that a block of rows sees through the window lie in one more split than they would fill.
        reach = self.window + self.tokens(tile) - 1
        return min(held, GPU_SPLIT.count(self.sinks) + GPU_SPLIT.count(reach - 1) + 1)

    def arguments(self) -> tuple[Tensor | int | float, ...]:
        """What both kernels take, in their order, from the queries to the sinks."""
        bias = self.q if self.distance_bias is None else self.distance_bias
        page, group, slot, _ = self.keys.stride()
        return (
            self.q, self.keys, self.values, self.page_table, self.starts, self.lengths, bias,
            self.lengths.shape[0], self.q.shape[1], page, group, slot, self.page_table.stride(0),
            self.scale, bias.shape[2], self.window, self.sinks,
        )  # fmt: skip

    def constants(self, tile: RowTile) -> dict[str, int | bool]:
        """The compile-time parameters of both kernels."""
        width = self.q.shape[2]
        return {
            "D": width,
            "BLOCK_D": max(16, power_of_two(width)),
            "PAGE": self.keys.shape[2],
            "SPLIT": GPU_SPLIT.keys,
            "KEYS": KEY_BLOCK,
            "REPEAT": self.q.shape[1] // self.keys.shape[1],
            "HEADS": self.heads(tile),
            "TOKENS": self.tokens(tile),
            "ROWS": tile.rows,
            "BLOCK_S": power_of_two(self.lengths.shape[0]),
            "BIASED": self.distance_bias is not None,
            "WINDOWED": self.window > 0,
            "INTERPRET": INTERPRET,
        }


def attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    page_table: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    window: int,
    sinks: int,
    distance_bias: Tensor | None,
) -> Tensor:
    """Attention of the newest tokens of some sessions over their paged keys; `(T, H, D)`, dtype of `q`.

    The arguments are those of `microturn.kernels.ops.attention.attention`. Grids come from the sizes of tensors, so
    nothing waits for the device, and a call can be part of a CUDA graph.
    """
    call = Call(
        q.contiguous(), keys, values, page_table, starts, lengths, scale, window, sinks,
        None if distance_bias is None or distance_bias.shape[2] == 0 else distance_bias.contiguous(),
    )  # fmt: skip
    if q.shape[0] == 0:
        return torch.empty_like(call.q)
    few, many = row_tiles(q.dtype, q.device)
    return attend_split(call, few) if _few_queries(call, few, many) else attend_fused(call, many)


def attend_split(call: Call, tile: RowTile) -> Tensor:
    """The kernel for few queries: a program per visited split, then the fold."""
    out = torch.empty_like(call.q)
    tokens, query_heads, width = call.q.shape
    slots = call.slots(tile)
    partial = torch.empty((tokens, query_heads, slots, width), dtype=torch.float32, device=call.q.device)
    state = torch.empty((tokens, query_heads, slots, 2), dtype=torch.float32, device=call.q.device)
    constants = call.constants(tile)
    split_kernel[(*call.grid(tile), slots)](
        partial, state, *call.arguments(), slots, **constants,
        num_warps=tile.num_warps, num_stages=tile.num_stages, enable_fp_fusion=False,
    )  # fmt: skip
    shared = {name: constants[name] for name in ("D", "BLOCK_D", "SPLIT", "TOKENS", "BLOCK_S", "WINDOWED")}
    combine_kernel[(tokens, query_heads)](
        out, partial, state, call.starts, call.lengths,
        call.lengths.shape[0], query_heads, call.window, call.sinks, slots, **shared, UNROLL=COMBINE_UNROLL,
        num_warps=1, num_stages=1, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def attend_fused(call: Call, tile: RowTile) -> Tensor:
    """The kernel for many queries: a program per block of query rows, which folds its splits itself."""
    out = torch.empty_like(call.q)
    fused_kernel[call.grid(tile)](
        out, *call.arguments(), **call.constants(tile),
        num_warps=tile.num_warps, num_stages=tile.num_stages, enable_fp_fusion=False,
    )  # fmt: skip
    return out


def row_tiles(dtype: torch.dtype, device: torch.device) -> tuple[RowTile, RowTile]:
    """The tiles for few and for many queries, both of one class of matrix multiply."""
    if dtype == torch.float32:
        return _FLOAT32_TILE, _FLOAT32_TILE
    arch = architecture(device)
    return _TILES[mma_class(arch) if arch >= HOPPER else "hmma"]


_TILES: dict[MmaClass, tuple[RowTile, RowTile]] = {
    "hmma": (RowTile(rows=16, num_warps=4, num_stages=5), RowTile(rows=32, num_warps=8, num_stages=3)),
    "hgmma": (RowTile(rows=64, num_warps=8, num_stages=5), RowTile(rows=64, num_warps=8, num_stages=3)),
    "equal": (RowTile(rows=16, num_warps=4, num_stages=5), RowTile(rows=64, num_warps=8, num_stages=3)),
}
"""Triton multiplies tiles of 64 rows with Hopper's warpgroup instruction, and lower ones with that of one warp.

Before Hopper there is only the latter, and 64 rows need more registers with it than there are."""

_FLOAT32_TILE = RowTile(rows=16, num_warps=8, num_stages=2)
"""Float32 is multiplied without tensor cores."""


def _few_queries(call: Call, few: RowTile, many: RowTile) -> bool:
    """Whether a program per split fills the device better, and its workspace stays small."""
    blocks, tiles = call.grid(many)
    if call.slots(few) == 1 or blocks * tiles >= processors(call.q.device):
        return False
    return call.q.numel() * call.slots(few) * 4 <= WORKSPACE_LIMIT_BYTES


def compile_cases() -> list[CompileCase]:
    """Both kernels for a group of four heads of 128 numbers, and the fold of splits."""
    return [*_kernel_cases(), _combine_case()]


def _kernel_cases() -> Iterator[CompileCase]:
    for mma, (few, many) in _TILES.items():
        yield _case(split_kernel, few, mma, page=64)
        yield _case(fused_kernel, many, mma, page=64)
    few, many = _TILES["hgmma"]
    yield _case(split_kernel, few, "hgmma", page=16)
    yield _case(fused_kernel, many, "hgmma", page=16)
    yield _case(split_kernel, _FLOAT32_TILE, "equal", page=64, dtype=torch.float32)
    yield _case(fused_kernel, _FLOAT32_TILE, "equal", page=64, dtype=torch.float32)


_INTEGERS = (
    "segments", "query_heads", "page_stride", "group_stride", "slot_stride", "table_stride", "extent", "window", "sinks",
)  # fmt: skip
_INDICES = {"table_ptr": "*i32", "starts_ptr": "*i32", "lengths_ptr": "*i32"}
_WORKSPACE = {"partial_ptr": "*fp32", "state_ptr": "*fp32", "slots": "i32"}


def _case(
    kernel: Any, tile: RowTile, mma: MmaClass, *, page: int, dtype: torch.dtype = torch.bfloat16
) -> CompileCase:
    name, is_split = TYPE_NAMES[dtype], kernel is split_kernel
    pointers = ("q_ptr", "keys_ptr", "values_ptr", "bias_ptr", *(() if is_split else ("out_ptr",)))
    signature = {
        **dict.fromkeys(pointers, f"*{name}"),
        **dict.fromkeys(_INTEGERS, "i32"),
        **_INDICES,
        "scale": "fp32",
    }
    constants = {
        "D": 128, "BLOCK_D": 128, "PAGE": page, "SPLIT": GPU_SPLIT.keys, "KEYS": KEY_BLOCK, "REPEAT": 4, "HEADS": 4,
        "TOKENS": tile.rows // 4, "ROWS": tile.rows, "BLOCK_S": 8, "BIASED": True, "WINDOWED": True, "INTERPRET": False,
    }  # fmt: skip
    kind = "split" if is_split else "fused"
    return CompileCase(
        name=f"attention/{kind} {name} {tile.rows}x{KEY_BLOCK}x128 w{tile.num_warps} s{tile.num_stages} page {page} {mma}",
        kernel=kernel,
        signature=signature | (_WORKSPACE if is_split else {}),
        constexprs=constants,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        aligned=("page_stride", "group_stride", "slot_stride", "table_stride", "extent"),
        architectures=[
            arch for arch in ALL_ARCHITECTURES if arch >= HOPPER or mma == "hmma" or name == "fp32"
        ],
        expects_hgmma=tile.rows >= 64 and dtype != torch.float32,
    )


def _combine_case() -> CompileCase:
    integers = ("segments", "query_heads", "window", "sinks")
    return CompileCase(
        name=f"attention/combine bf16 128 u{COMBINE_UNROLL}",
        kernel=combine_kernel,
        signature={
            "out_ptr": "*bf16", "starts_ptr": "*i32", "lengths_ptr": "*i32",
            **_WORKSPACE, **dict.fromkeys(integers, "i32"),
        },
        constexprs={
            "D": 128, "BLOCK_D": 128, "SPLIT": GPU_SPLIT.keys, "TOKENS": 4, "BLOCK_S": 8, "WINDOWED": True,
            "UNROLL": COMBINE_UNROLL,
        },
        num_warps=1,
        num_stages=1,
    )  # fmt: skip
