"""Sampling with counter-based noise: the largest score of each piece of a row, then the largest of the row.

The integers of the noise are those of `microturn.kernels.ops.sampling.sample`, so CPU and GPU draw with the same ones.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import power_of_two

BLOCK = 2048
"""Columns per program: a vocabulary of 201,024 keeps 99 programs busy for one token. No bit depends on it."""

_FIRST_START = tl.constexpr(0x9E3779B9)
_SECOND_START = tl.constexpr(0x85EBCA6B)
_FIRST_FACTOR = tl.constexpr(0x7FEB352D)
_SECOND_FACTOR = tl.constexpr(0x846CA68B)
_UNIFORM_STEP = tl.constexpr(2.0**-32)
_LARGEST_UNIFORM = tl.constexpr(1.0 - 2.0**-24)


@triton.jit
def _mixed(word):
    """The finaliser lowbias32 of a uint32."""
    word = word ^ (word >> 16)
    word = (word * tl.full((), _FIRST_FACTOR, tl.uint32)).to(tl.uint32)
    word = word ^ (word >> 15)
    word = (word * tl.full((), _SECOND_FACTOR, tl.uint32)).to(tl.uint32)
    return word ^ (word >> 16)


@triton.jit
def _key(start, seed, position):
    """32 bits of a row's seed and position."""
    key = _mixed(start ^ seed.to(tl.uint32))
    key = _mixed(key ^ (seed >> 32).to(tl.uint32))
    key = _mixed(key ^ position.to(tl.uint32))
    return _mixed(key ^ (position >> 32).to(tl.uint32))


@triton.jit
def noise_hash(seed, position, columns):
    """The noise's integers, uint32, for int64 `seed` and `position`."""
    first = _key(tl.full((), _FIRST_START, tl.uint32), seed, position)
    second = _key(tl.full((), _SECOND_START, tl.uint32), seed, position)
    return _mixed((_mixed(columns.to(tl.uint32) ^ first) + second).to(tl.uint32))


@triton.jit
def _gumbel(hashed):
    """-log(-log(1 - u)), with Kahan's way to keep the relative precision of log(1 - u) for small u."""
    uniform = tl.minimum((hashed.to(tl.float32) + 0.5) * _UNIFORM_STEP, _LARGEST_UNIFORM)
    rest = 1.0 - uniform
    lost = 1.0 - rest
    surprise = tl.where(lost == 0.0, uniform, -tl.log(rest) * (uniform / tl.where(lost == 0.0, 1.0, lost)))
    return -tl.log(surprise)


@triton.jit
def _first_largest(scores, columns, BEYOND: tl.constexpr):
    """The largest score and the lowest column that has it."""
    top = tl.max(scores, axis=0)
    return top, tl.min(tl.where(scores == top, columns, BEYOND), axis=0)


@triton.jit
def sample_pieces_kernel(
    logits, seeds, positions, temperature, tops, places, width, row_stride, pieces,
    BLOCK: tl.constexpr, BEYOND: tl.constexpr,
):  # fmt: skip
    """The best column of one piece of one row."""
    row, piece = tl.program_id(0), tl.program_id(1)
    columns = piece * BLOCK + tl.arange(0, BLOCK)
    mask = columns < width
    scores = tl.load(logits + row.to(tl.int64) * row_stride + columns, mask=mask, other=float("-inf")).to(
        tl.float32
    )
    heat = tl.load(temperature + row)
    if heat > 0.0:
        hashed = noise_hash(tl.load(seeds + row), tl.load(positions + row), columns)
        scores = tl.div_rn(scores, heat) + _gumbel(hashed)
    top, place = _first_largest(scores, tl.where(mask, columns, BEYOND), BEYOND)
    tl.store(tops + row * pieces + piece, top)
    tl.store(places + row * pieces + piece, place)


@triton.jit
def sample_row_kernel(tops, places, out, width, pieces, BLOCK: tl.constexpr, BEYOND: tl.constexpr):
    """The best column of one row, from the best of its pieces."""
    row = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    mask = lanes < pieces
    scores = tl.load(tops + row * pieces + lanes, mask=mask, other=float("-inf"))
    columns = tl.load(places + row * pieces + lanes, mask=mask, other=BEYOND)
    _, place = _first_largest(scores, columns, BEYOND)
    # Only a row of NaNs has no largest score; its id must still be one of the vocabulary.
    tl.store(out + row, tl.minimum(place, width - 1).to(tl.int64))


_BEYOND = 2**31 - 1
"""Stands for no column."""


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, temperature: Tensor) -> Tensor:
    """logits (T, V), the others (T) -> ids (T) int64."""
    tokens, width = logits.shape
    scores = logits if logits.stride(1) == 1 else logits.contiguous()
    pieces = triton.cdiv(width, BLOCK)
    out = torch.empty(tokens, dtype=torch.int64, device=logits.device)
    tops = torch.empty((tokens, pieces), dtype=torch.float32, device=logits.device)
    places = torch.empty((tokens, pieces), dtype=torch.int32, device=logits.device)
    if tokens:
        sample_pieces_kernel[(tokens, pieces)](
            scores, seeds.contiguous(), positions.contiguous(), temperature.contiguous(), tops, places,
            width, scores.stride(0), pieces, BLOCK=BLOCK, BEYOND=_BEYOND, **_OPTIONS,
        )  # fmt: skip
        sample_row_kernel[(tokens,)](
            tops, places, out, width, pieces, BLOCK=power_of_two(pieces), BEYOND=_BEYOND, **_OPTIONS
        )
    return out


_OPTIONS: dict[str, Any] = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}


def compile_cases() -> list[CompileCase]:
    """Both kernels for a vocabulary of 201,024."""
    partial = {"tops": "*fp32", "places": "*i32", "pieces": "i32"}
    pieces = {
        "logits": "*bf16", "seeds": "*i64", "positions": "*i64", "temperature": "*fp32", **partial,
        "width": "i32", "row_stride": "i32",
    }  # fmt: skip
    return [
        _case("sample_pieces/bf16", sample_pieces_kernel, pieces, BLOCK, ("row_stride", "width")),
        _case("sample_row/fp32", sample_row_kernel, {**partial, "width": "i32", "out": "*i64"}, 128, ()),
    ]


def _case(
    name: str, kernel: object, signature: dict[str, str], block: int, aligned: tuple[str, ...]
) -> CompileCase:
    return CompileCase(
        name=f"{name} {block}",
        kernel=kernel,
        signature=signature,
        constexprs={"BLOCK": block, "BEYOND": _BEYOND},
        num_warps=4,
        num_stages=1,
        aligned=aligned,
        expects_wide_loads=bool(aligned),
    )
