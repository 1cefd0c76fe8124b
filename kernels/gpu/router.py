"""The router in one launch: logits by fixed cuts of the sum, then the choice of experts by the last program to finish.

The cut is a constant of the width. Few tokens compute its parts in different programs, which keeps more processors busy;
many tokens add the same parts in the same order in registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.dot import ascending_sum
from microturn.kernels.gpu.launch import INTERPRET, ceil_div, power_of_two
from microturn.kernels.gpu.tuning import Tile

MAX_SPLITS = 8
"""Parts of the sum: at a width of 4,096 and 258 experts, 72 programs share one block of tokens."""
SPLIT_STEP = 128
SIDE_BY_SIDE_TOKENS = 64
"""Up to so many tokens the parts are computed by different programs."""

CHOICE_ROWS = tl.constexpr(4)
"""Tokens whose experts are chosen together, one by each warp: more would not fit into registers."""

FEW = Tile(16, 32, 128, 4, 4)
MANY = Tile(32, 64, 64, 4, 4)
FEW_FLOAT32 = Tile(16, 16, 64, 4, 2)
MANY_FLOAT32 = Tile(32, 32, 32, 4, 3)
"""All below 64 rows: one kind of multiply instruction, HMMA, for every number of tokens."""


@triton.jit
def router_kernel(
    x, weight, correction, parts, finished, ids, weights, T, E, C, scale, depth,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, TOP_K: tl.constexpr, SHARED: tl.constexpr,
    EXPERTS: tl.constexpr, SLOTS: tl.constexpr, PROGRAM_SPLITS: tl.constexpr, WIDE: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Partial logits (PROGRAM_SPLITS, T, E + SHARED), and the choice for ROWS tokens.

    With PROGRAM_SPLITS = 1 one program adds all parts.
    """
    first_row = tl.program_id(0) * ROWS
    column_tile = tl.program_id(1) // PROGRAM_SPLITS
    split = tl.program_id(1) % PROGRAM_SPLITS
    rows = first_row + tl.arange(0, ROWS)
    columns = column_tile * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, DEPTH)[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    end = (split + 1) * depth if PROGRAM_SPLITS > 1 else C
    for start in range(split * depth, tl.minimum(end, C), depth):
        total += ascending_sum(
            x + rows.to(tl.int64)[:, None] * C + start + inner, weight + columns[:, None] * C + start + inner,
            (rows < T)[:, None], (columns < E + SHARED)[:, None], tl.minimum(depth, C - start), 1, 1,
            ROWS, COLUMNS, DEPTH, True, False, INTERPRET or WIDE,
        )  # fmt: skip
    part_size = T.to(tl.int64) * (E + SHARED)
    place = split * part_size + rows.to(tl.int64)[:, None] * (E + SHARED) + columns[None, :]
    tl.store(parts + place, total, mask=(rows < T)[:, None] & (columns < E + SHARED)[None, :])
    # Every thread's stores must be visible before this program is counted as finished.
    tl.debug_barrier()
    others = tl.atomic_add(finished + tl.program_id(0), 1, sem="acq_rel")
    if others == tl.num_programs(1) - 1:
        for group in range(0, tl.minimum(ROWS, T - first_row), CHOICE_ROWS):
            _choose(
                parts, correction, ids, weights, first_row + group, T, E, scale, part_size,
                CHOICE_ROWS, TOP_K, SHARED, EXPERTS, SLOTS, PROGRAM_SPLITS,
            )  # fmt: skip


@triton.jit
def _choose(
    parts, correction, ids, weights, first_row, T, E, scale, part_size,
    ROWS: tl.constexpr, TOP_K: tl.constexpr, SHARED: tl.constexpr, EXPERTS: tl.constexpr, SLOTS: tl.constexpr,
    SPLITS: tl.constexpr,
):  # fmt: skip
    """The best TOP_K of the first E logits by corrected score, the shared ones, and a softmax of log-sigmoids."""
    rows = first_row + tl.arange(0, ROWS)
    is_row = rows < T
    experts = tl.arange(0, EXPERTS)
    row_start = parts + rows.to(tl.int64) * (E + SHARED)
    is_expert = (experts < E)[None, :]
    logits = _added(row_start[:, None] + experts[None, :], is_row[:, None] & is_expert, part_size, SPLITS)
    bonus = tl.load(correction + experts, mask=experts < E, other=0.0).to(tl.float32)
    choice = tl.where(is_expert, 1.0 / (1.0 + tl.exp(-logits)) + bonus[None, :], float("-inf"))
    slots = tl.arange(0, SLOTS)[None, :]
    kept = tl.zeros((ROWS, SLOTS), dtype=tl.float32)
    kept_ids = tl.zeros((ROWS, SLOTS), dtype=tl.int32)
    largest = tl.full((ROWS,), float("-inf"), dtype=tl.float32)
    for slot in tl.static_range(TOP_K + SHARED):
        if slot < TOP_K:
            best = tl.max(choice, axis=1)
            chosen = tl.min(tl.where(choice == best[:, None], experts[None, :], EXPERTS), axis=1)
            chosen = tl.minimum(chosen, E - 1)  # of NaNs nothing is the best
            is_chosen = experts[None, :] == chosen[:, None]
            logit = tl.sum(tl.where(is_chosen, logits, 0.0), axis=1)
            choice = tl.where(is_chosen, float("-inf"), choice)
        else:
            chosen = tl.zeros((ROWS,), dtype=tl.int32) + E + (slot - TOP_K)
            logit = _added(row_start + chosen, is_row, part_size, SPLITS)
        value = tl.minimum(logit, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(logit)))
        largest = tl.maximum(largest, value)
        kept = tl.where(slots == slot, value[:, None], kept)
        kept_ids = tl.where(slots == slot, chosen[:, None], kept_ids)
    terms = tl.exp(kept - largest[:, None])
    total = tl.zeros((ROWS,), dtype=tl.float32)
    for slot in tl.static_range(TOP_K + SHARED):
        total += tl.sum(tl.where(slots == slot, terms, 0.0), axis=1)
    place = rows[:, None] * (TOP_K + SHARED) + slots
    mask = is_row[:, None] & (slots < TOP_K + SHARED)
    tl.store(ids + place, kept_ids, mask=mask)
    tl.store(weights + place, terms / total[:, None] * scale, mask=mask)


@triton.jit
def _added(place, mask, part_size, SPLITS: tl.constexpr):
    """The parts of a logit from left to right; they come from other processors, hence from the shared cache."""
    total = tl.load(place, mask=mask, other=0.0, cache_modifier=".cg")
    for split in tl.static_range(1, SPLITS):
        total += tl.load(place + split * part_size, mask=mask, other=0.0, cache_modifier=".cg")
    return total


def route(
    x: Tensor, weight: Tensor, correction: Tensor, top_k: int, shared: int, scale: float
) -> tuple[Tensor, Tensor]:
    """x (T, C), weight (E + shared, C), correction (E) -> ids int32 and weights float32, (T, top_k + shared)."""
    x, weight = x.contiguous(), weight.contiguous()
    tokens = x.shape[0]
    slots = top_k + shared
    ids = torch.empty((tokens, slots), dtype=torch.int32, device=x.device)
    weights = torch.empty((tokens, slots), dtype=torch.float32, device=x.device)
    if tokens:
        _launch(x, weight, correction.contiguous(), top_k, shared, scale, ids, weights)
    return ids, weights


def _launch(
    x: Tensor,
    weight: Tensor,
    correction: Tensor,
    top_k: int,
    shared: int,
    scale: float,
    ids: Tensor,
    weights: Tensor,
) -> None:
    (tokens, width), outputs = x.shape, weight.shape[0]
    is_wide = x.dtype != weight.dtype or x.dtype == torch.float32
    depth = split_depth(width)
    is_few = tokens <= SIDE_BY_SIDE_TOKENS
    splits = ceil_div(width, depth) if is_few else 1
    tile = tile_of(is_few=is_few, is_wide=is_wide)
    row_tiles = ceil_div(tokens, tile.rows)
    parts = torch.empty((splits, tokens, outputs), dtype=torch.float32, device=x.device)
    finished = torch.zeros(row_tiles, dtype=torch.int32, device=x.device)
    router_kernel[(row_tiles, ceil_div(outputs, tile.columns) * splits)](
        x, weight, correction, parts, finished, ids, weights, tokens, outputs - shared, width, scale, depth,
        ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, TOP_K=top_k, SHARED=shared,
        EXPERTS=power_of_two(outputs - shared), SLOTS=power_of_two(top_k + shared), PROGRAM_SPLITS=splits,
        WIDE=is_wide, INTERPRET=INTERPRET,
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def split_depth(width: int) -> int:
    """Terms per part of the sum: a constant of the width."""
    return ceil_div(ceil_div(width, MAX_SPLITS), SPLIT_STEP) * SPLIT_STEP


def tile_of(*, is_few: bool, is_wide: bool) -> Tile:
    """The tile for few or many tokens; float32 is multiplied by ordinary instructions, hence smaller ones."""
    if is_wide:
        return FEW_FLOAT32 if is_few else MANY_FLOAT32
    return FEW if is_few else MANY


def compile_cases() -> list[CompileCase]:
    """Inkling-Small's router, 256 + 2 experts and 6 + 2 slots at a width of 4,096, for few and many tokens."""
    return [
        _case(is_few=is_few, dtypes=dtypes)
        for is_few in (True, False)
        for dtypes in (("bf16", "bf16"), ("bf16", "fp32"), ("fp32", "fp32"))
    ]


def _case(*, is_few: bool, dtypes: tuple[str, str]) -> CompileCase:
    is_wide = "fp32" in dtypes
    tile = tile_of(is_few=is_few, is_wide=is_wide)
    pointers = {
        "x": f"*{dtypes[0]}", "weight": f"*{dtypes[1]}", "correction": "*fp32", "parts": "*fp32", "finished": "*i32",
        "ids": "*i32", "weights": "*fp32",
    }  # fmt: skip
    return CompileCase(
        name=f"router/{dtypes[0]} x {dtypes[1]} {'few' if is_few else 'many'}",
        kernel=router_kernel,
        signature={**pointers, "T": "i32", "E": "i32", "C": "i32", "scale": "fp32", "depth": "i32"},
        constexprs={
            "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "TOP_K": 6, "SHARED": 2, "EXPERTS": 256,
            "SLOTS": 8, "PROGRAM_SPLITS": MAX_SPLITS if is_few else 1, "WIDE": is_wide, "INTERPRET": False,
        },
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=("E", "C", "depth"),
    )  # fmt: skip
