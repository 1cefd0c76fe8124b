"""The language model's head: logits are reduced block by block of the vocabulary and never stored.

Each block of 128 tokens gives, for every row, its largest logit, the first token that has it, and the sum of exponentials
relative to it; a second launch merges the blocks of a row. Block and trees are constants, so neither the tile nor the
number of rows can change bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.dot import ascending_sum, by_rows, tile_place
from microturn.kernels.gpu.launch import INTERPRET, ceil_div
from microturn.kernels.gpu.tuning import (
    Buckets,
    Defaults,
    MmaClass,
    Tile,
    architecture,
    architectures_of,
    mma_class,
    pick,
    tables,
    tile_for,
    tile_name,
    uses_hgmma,
)

VOCABULARY_BLOCK = 128
"""Tokens whose exponentials are summed together: part of the numeric contract, and every tile's columns."""
_TREE_LEVELS = tl.constexpr(7)
_MERGE_BLOCK = 1024
_NO_TOKEN = tl.constexpr(2**31 - 1)

_SMALL = ((16, Tile(16, 128, 64, 4, 5)), (64, Tile(32, 128, 64, 8, 4)))
DEFAULTS: Defaults = {
    "equal": (*_SMALL, (None, Tile(64, 128, 64, 4, 4))),
    "hgmma": (*_SMALL, (None, Tile(128, 128, 64, 8, 4))),
    "hmma": (*_SMALL, (None, Tile(32, 128, 64, 8, 4))),
}
FLOAT32: Buckets = ((None, Tile(16, 128, 32, 8, 2)),)


@triton.jit
def lm_head_kernel(
    h, weight, targets, maxima, sums, ids, target_logits, T, V, C, h_row, weight_row, blocks,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr,
    HAS_TAIL: tl.constexpr, HAS_TARGETS: tl.constexpr, SWAP: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """Logits of ROWS rows and one block of the vocabulary, reduced to one number each."""
    row_tile, block = tile_place(tl.program_id(0), tl.cdiv(T, ROWS), blocks, GROUP)
    rows = row_tile * ROWS + tl.arange(0, ROWS)
    columns = block * COLUMNS + tl.arange(0, COLUMNS)
    inner = tl.arange(0, DEPTH)[None, :]
    logits = ascending_sum(
        h + rows.to(tl.int64)[:, None] * h_row + inner,
        weight + columns.to(tl.int64)[:, None] * weight_row + inner,
        (rows < T)[:, None], (columns < V)[:, None], C, 1, 1,
        ROWS, COLUMNS, DEPTH, HAS_TAIL, SWAP, INTERPRET,
    )  # fmt: skip
    logits = by_rows(logits, SWAP)
    logits = tl.where((columns < V)[None, :], logits, float("-inf"))
    largest = tl.max(logits, axis=1)
    place = rows.to(tl.int64) * blocks + block
    tl.store(maxima + place, largest, mask=rows < T)
    tl.store(sums + place, _pairwise_sum(tl.exp(logits - largest[:, None]), ROWS, COLUMNS), mask=rows < T)
    if HAS_TARGETS:
        wanted = tl.load(targets + rows, mask=rows < T, other=-1)
        is_target = columns[None, :] == wanted[:, None]
        found = tl.sum(tl.where(is_target, logits, 0.0), axis=1)
        is_here = (wanted >= block * COLUMNS) & (wanted < tl.minimum((block + 1) * COLUMNS, V))
        tl.store(target_logits + rows, found, mask=is_here)
    else:
        is_largest = logits == largest[:, None]
        tl.store(
            ids + place, tl.min(tl.where(is_largest, columns[None, :], _NO_TOKEN), axis=1), mask=rows < T
        )


@triton.jit
def _pairwise_sum(terms, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Row sums of terms (ROWS, 128), neighbours first.

    `tl.sum` would follow how the compiler spreads the tile over threads, which differs between tiles.
    """
    for level in tl.static_range(_TREE_LEVELS):
        left, right = tl.split(tl.reshape(terms, (ROWS, COLUMNS >> (level + 1), 2)))
        terms = left + right
    return tl.reshape(terms, (ROWS,))


@triton.jit
def lm_head_merge_kernel(
    maxima, sums, ids, targets, target_logits, best_ids, values, logsumexps, blocks, V,
    HAS_TARGETS: tl.constexpr, BLOCK: tl.constexpr, INTERPRET: tl.constexpr,
):  # fmt: skip
    """One row's blocks: its logsumexp, and its best token or its target's log-probability."""
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, BLOCK)
    best = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for start in range(0, blocks, BLOCK):
        columns = start + lanes
        value = tl.load(maxima + row * blocks + columns, mask=columns < blocks, other=float("-inf"))
        best = tl.maximum(best, value)
    largest = tl.max(best, axis=0)
    partial = tl.zeros((BLOCK,), dtype=tl.float32)
    first = tl.full((BLOCK,), _NO_TOKEN, dtype=tl.int32)
    for start in range(0, blocks, BLOCK):
        columns = start + lanes
        mask = columns < blocks
        value = tl.load(maxima + row * blocks + columns, mask=mask, other=float("-inf"))
        partial += tl.exp(value - largest) * tl.load(sums + row * blocks + columns, mask=mask, other=0.0)
        if not HAS_TARGETS:
            token = tl.load(ids + row * blocks + columns, mask=mask, other=_NO_TOKEN)
            first = tl.minimum(first, tl.where(value == largest, token, _NO_TOKEN))
    logsumexp = largest + tl.log(tl.sum(partial, axis=0))
    tl.store(logsumexps + row, logsumexp)
    if HAS_TARGETS:
        target = tl.load(targets + row)
        logit = tl.load(target_logits + row)
        is_token = (target >= 0) & (target < V)
        tl.store(values + row, tl.where(is_token, logit - logsumexp, float("nan")))
    else:
        tl.store(values + row, largest)
        tl.store(best_ids + row, tl.minimum(tl.min(first, axis=0), V - 1).to(tl.int64))


def lm_head_logprob(h: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """h (T, C), weight (V, C), targets (T) int64 -> log-probability and logsumexp (T) float32.

    A target outside the vocabulary has the log-probability NaN: finding it out on the host would wait for the GPU.
    """
    _, logprob, logsumexp = _head(h, weight, targets.contiguous())
    return logprob, logsumexp


def lm_head_argmax(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """h (T, C), weight (V, C) -> ids (T) int64, logit (T) float32, logsumexp (T) float32."""
    return _head(h, weight, None)


def _head(h: Tensor, weight: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    tokens, vocabulary = h.shape[0], weight.shape[0]
    blocks = ceil_div(vocabulary, VOCABULARY_BLOCK)
    # Each its own allocation: a start that is not a multiple of 16 bytes would change the merge's tree.
    maxima = torch.empty((tokens, blocks), dtype=torch.float32, device=h.device)
    sums = torch.empty_like(maxima)
    firsts = torch.empty((tokens, blocks), dtype=torch.int32, device=h.device) if targets is None else None
    values, logsumexps, logits = torch.empty((3, tokens), dtype=torch.float32, device=h.device)
    ids = torch.empty(tokens, dtype=torch.int64, device=h.device)
    if tokens:
        _launch_blocks(h, weight, targets, maxima, sums, firsts, logits)
        lm_head_merge_kernel[(tokens,)](
            maxima, sums, firsts, targets, logits, ids, values, logsumexps, blocks, vocabulary,
            HAS_TARGETS=targets is not None, BLOCK=_MERGE_BLOCK, INTERPRET=INTERPRET,
            num_warps=4, num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return ids, values, logsumexps


def _launch_blocks(
    h: Tensor, weight: Tensor, targets: Tensor | None,
    maxima: Tensor, sums: Tensor, firsts: Tensor | None, logits: Tensor,
) -> None:  # fmt: skip
    h, weight = h.contiguous(), weight.contiguous()
    (tokens, width), vocabulary = h.shape, weight.shape[0]
    arch = architecture(h.device)
    tile = _tile(h.dtype, tokens, vocabulary, width, arch)
    blocks = maxima.shape[1]
    lm_head_kernel[(ceil_div(tokens, tile.rows) * blocks,)](
        h, weight, targets, maxima, sums, firsts, logits, tokens, vocabulary, width, h.stride(0), weight.stride(0), blocks,
        ROWS=tile.rows, COLUMNS=tile.columns, DEPTH=tile.depth, GROUP=tile.group,
        HAS_TAIL=bool(width % tile.depth), HAS_TARGETS=targets is not None,
        SWAP=h.dtype != torch.float32 and mma_class(arch) == "hgmma", INTERPRET=INTERPRET,
        num_warps=tile.warps, num_stages=tile.stages, enable_fp_fusion=False,
    )  # fmt: skip


def _tile(dtype: torch.dtype, tokens: int, vocabulary: int, width: int, arch: int) -> Tile:
    if dtype == torch.float32:
        return pick(FLOAT32, tokens)
    tile = tile_for("lm_head", tokens, vocabulary, width, arch=arch, defaults=DEFAULTS)
    if tile.columns != VOCABULARY_BLOCK:
        raise ValueError(f"lm_head: expected a tile of {VOCABULARY_BLOCK} columns, got {tile!r}")
    return tile


def compile_cases() -> list[CompileCase]:
    """Every configuration that defaults and tables use."""
    cases = {case.name: case for case in _all_cases()}
    return [*cases.values(), _merge_case(has_targets=False), _merge_case(has_targets=True)]


def _all_cases() -> Iterator[CompileCase]:
    for mma, buckets in DEFAULTS.items():
        for _, tile in buckets:
            for has_targets in (False, True):
                yield _case(tile, mma, None, has_targets=has_targets)
    for table in tables():
        for _, _, tile in table.operator_tiles("lm_head"):
            yield _case(tile, table.mma_class, table.arch, has_targets=False)
    for _, tile in FLOAT32:
        yield _case(tile, "equal", None, has_targets=False, dtype="fp32")


def _case(
    tile: Tile, mma: MmaClass, arch: int | None, *, has_targets: bool, dtype: str = "bf16"
) -> CompileCase:
    absent: dict[str, object] = {"ids": None} if has_targets else {"targets": None}
    pointers = {
        "h": f"*{dtype}", "weight": f"*{dtype}", "targets": "*i64", "maxima": "*fp32", "sums": "*fp32",
        "ids": "*i32", "target_logits": "*fp32",
    }  # fmt: skip
    integers = ("T", "V", "C", "h_row", "weight_row", "blocks")
    return CompileCase(
        name=f"lm_head/{dtype} {tile_name(tile, mma)}{' targets' if has_targets else ''}",
        kernel=lm_head_kernel,
        signature={**{k: v for k, v in pointers.items() if k not in absent}, **dict.fromkeys(integers, "i32")},
        constexprs={
            "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth, "GROUP": tile.group, "HAS_TAIL": False,
            "HAS_TARGETS": has_targets, "SWAP": mma == "hgmma", "INTERPRET": False, **absent,
        },
        num_warps=tile.warps,
        num_stages=tile.stages,
        aligned=("V", "C", "h_row", "weight_row"),
        architectures=architectures_of(mma, arch),
        expects_hgmma=uses_hgmma(tile, mma) and dtype != "fp32",
    )  # fmt: skip


def _merge_case(*, has_targets: bool) -> CompileCase:
    absent = "ids" if has_targets else "targets"
    pointers = {
        "maxima": "*fp32", "sums": "*fp32", "ids": "*i32", "targets": "*i64", "target_logits": "*fp32",
        "best_ids": "*i64", "values": "*fp32", "logsumexps": "*fp32", "blocks": "i32", "V": "i32",
    }  # fmt: skip
    return CompileCase(
        name=f"lm_head_merge/{'targets' if has_targets else 'ids'}",
        kernel=lm_head_merge_kernel,
        signature={name: kind for name, kind in pointers.items() if name != absent},
        constexprs={
            "HAS_TARGETS": has_targets, "BLOCK": _MERGE_BLOCK, "INTERPRET": False, absent: None
        },
        num_warps=4,
        num_stages=1,
        expects_wide_loads=False,
    )  # fmt: skip
