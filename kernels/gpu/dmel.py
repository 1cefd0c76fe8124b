"""Sound to dMel levels in one launch, and levels to embeddings in another.

The Fourier transform is a matrix product with the frequencies that one mel filter needs. The window is part of the matrix,
and since a cosine is even and a sine odd around the middle of a frame, samples n and 1600 - n are added or subtracted
first, which halves the matrix. Each sum has one tile for any number of frames, so a frame's levels depend on it alone.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from microturn.kernels import mel_filters
from microturn.kernels.gpu.compile_case import CompileCase
from microturn.kernels.gpu.launch import INTERPRET, power_of_two, whole_rows

FRAMES = 4
"""Frames per program: 200 ms of one session."""
BINS = 64
"""Frequencies per program; the widest filter covers fewer."""
STEP = 1024 if INTERPRET else 32
"""Samples per step: 25 steps make half a frame. The interpreter pays for each step, and takes one."""
MATRIX_ROWS = 1024
"""Half a frame, and rows of zeros after it."""
LEVEL_WARPS = 8
"""Of the kernel for levels. Our choice: with four, some compilers spill registers."""
THRESHOLDS = 16
"""Levels, as the last threshold is infinite."""
ROWS_AT_ONCE = 8
"""Rows of the table that are loaded together before they are added one by one; divides 80."""

_HOP = tl.constexpr(mel_filters.HOP_SAMPLES)
_WINDOW = tl.constexpr(mel_filters.WINDOW_SAMPLES)
_MELS = tl.constexpr(mel_filters.MEL_BINS)
_LEVELS = tl.constexpr(mel_filters.LEVELS)
_LOUDEST = tl.constexpr(mel_filters.LOUDEST)
_POWER_FLOOR = tl.constexpr(mel_filters.POWER_FLOOR)


@triton.jit
def _clean(value):
    """Silence for what is not finite, and the loudest sample for what is louder."""
    finite = tl.where(tl.abs(value) < float("inf"), value, 0.0)
    return tl.minimum(tl.maximum(finite, -_LOUDEST), _LOUDEST)


@triton.jit
def _samples(audio, carry, session, index, valid, offset, samples):
    """Sample `offset` (N) of frame `index` (M) of each row's `session`: `(M, N)`."""
    place = index[:, None] * _HOP - _HOP + offset[None, :]
    row = session.to(tl.int64)[:, None]
    new = tl.load(audio + row * samples + place, mask=valid[:, None] & (place >= 0), other=0.0)
    old = tl.load(carry + row * _HOP + _HOP + place, mask=valid[:, None] & (place < 0), other=0.0)
    return _clean(tl.where(place >= 0, new, old))


@triton.jit
def _keep(audio, carry, new_carry, session, index, valid, frames, samples, STEP: tl.constexpr):
    """Write the last 800 samples of each session whose last frame is among the rows."""
    last = valid & (index == frames - 1)
    for step in range(0, _HOP, STEP):
        offset = step + tl.arange(0, STEP)
        inside = last[:, None] & (offset < _HOP)[None, :]
        value = _samples(audio, carry, session, index, last, tl.minimum(offset, _HOP - 1) + _HOP, samples)
        tl.store(new_carry + session.to(tl.int64)[:, None] * _HOP + offset[None, :], value, mask=inside)


@triton.jit(do_not_specialize=["rows", "frames"])
def dmel_levels_kernel(
    audio, carry, cosines, sines, filters, firsts, thresholds, levels, new_carry, rows, frames, samples,
    FRAMES: tl.constexpr, BINS: tl.constexpr, STEP: tl.constexpr, COLUMNS: tl.constexpr, THRESHOLDS: tl.constexpr,
):  # fmt: skip
    """One mel filter of a few frames; the programs after the last filter keep the samples for the next call."""
    row = tl.program_id(0) * FRAMES + tl.arange(0, FRAMES)
    valid = row < rows
    session, index = row // frames, row % frames
    mel = tl.program_id(1)
    if mel == _MELS:
        _keep(audio, carry, new_carry, session, index, valid, frames, samples, STEP)
        return
    columns = tl.multiple_of(tl.load(firsts + mel), 4) + tl.arange(0, BINS)
    real = tl.zeros((FRAMES, BINS), tl.float32)
    imaginary = tl.zeros((FRAMES, BINS), tl.float32)
    for step in range(0, _HOP, STEP):
        near = step + 1 + tl.arange(0, STEP)
        left = _samples(audio, carry, session, index, valid, near, samples)
        right = _samples(audio, carry, session, index, valid, -near + _WINDOW, samples)
        cells = (step + tl.arange(0, STEP))[:, None] * COLUMNS + columns[None, :]
        real = tl.dot(left + right, tl.load(cosines + cells), real, input_precision="ieee")
        imaginary = tl.dot(left - right, tl.load(sines + cells), imaginary, input_precision="ieee")
    magnitude = tl.sqrt(tl.maximum(real * real + imaginary * imaginary, _POWER_FLOOR))
    energy = tl.sum(magnitude * tl.load(filters + mel * COLUMNS + columns)[None, :], axis=1)
    reached = energy[:, None] >= tl.load(thresholds + tl.arange(0, THRESHOLDS))[None, :]
    level = tl.sum(reached.to(tl.int32), axis=1)
    tl.store(levels + row.to(tl.int64) * _MELS + mel, level.to(tl.uint8), mask=valid)


@triton.jit
def dmel_embed_kernel(levels, table, weight, out, width, eps, BLOCK: tl.constexpr, AT_ONCE: tl.constexpr):
    """One frame: its 80 rows added in the order of bins, and the norm of the sum."""
    frame = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < width
    total = tl.zeros((BLOCK,), tl.float32)
    for base in range(0, _MELS, AT_ONCE):
        for step in tl.static_range(AT_ONCE):
            mel = base + step
            row = mel * _LEVELS + tl.load(levels + frame * _MELS + mel).to(tl.int32)
            total += tl.load(table + row.to(tl.int64) * width + columns, mask=mask, other=0.0).to(tl.float32)
    scaled = total * tl.rsqrt(tl.sum(total * total, axis=0) / width + eps)
    result = scaled * tl.load(weight + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + frame * width + columns, result.to(out.dtype.element_ty), mask=mask)


class Tables(NamedTuple):
    """What `dmel_levels_kernel` reads besides the sound."""

    cosines: Tensor
    """(1024, columns) float32: window times cosine at samples 1 to 800, by frequency; zeros from row 800 on."""
    sines: Tensor
    """As `cosines`."""
    filters: Tensor
    """(80, columns) float32."""
    firsts: Tensor
    """(80,) int32: the first frequency of each filter, a multiple of 4 for wide loads."""
    thresholds: Tensor
    """(16,) float32: the smallest energy of each level from 1 to 15, and infinity."""


@cache
def _tables(device: torch.device) -> Tables:
    """Made once per device, in float64 and rounded."""
    samples = torch.arange(1, mel_filters.HOP_SAMPLES + 1, dtype=torch.int64)
    window = torch.hann_window(mel_filters.WINDOW_SAMPLES, dtype=torch.float64)[samples]
    # Sample 800 is its own partner, is added to itself, and so counts half.
    window[-1] /= 2
    columns = mel_filters.FREQUENCIES - 1 + BINS
    # The product is taken modulo the period, as a cosine of a large angle loses digits.
    turns = torch.outer(samples, torch.arange(columns)) % mel_filters.WINDOW_SAMPLES
    angles = turns.double() * (2.0 * torch.pi / mel_filters.WINDOW_SAMPLES)
    filters = torch.zeros(mel_filters.MEL_BINS, columns)
    filters[:, : mel_filters.FREQUENCIES] = mel_filters.mel_filters()
    thresholds = torch.full((THRESHOLDS,), torch.inf)
    thresholds[:-1] = (10.0 ** mel_filters.level_edges().double()).float()
    matrices = (torch.zeros(MATRIX_ROWS, columns), torch.zeros(MATRIX_ROWS, columns))
    for matrix, wave in zip(matrices, (angles.cos(), angles.sin()), strict=True):
        matrix[: len(samples)] = window[:, None] * wave
    parts = (*matrices, filters, _firsts(filters), thresholds)
    return Tables(
        *(part.to(device, torch.int32 if part.dtype == torch.int64 else torch.float32) for part in parts)
    )


def _firsts(filters: Tensor) -> Tensor:
    """Where each filter's 64 frequencies begin."""
    is_used = (filters > 0).int()
    firsts = is_used.argmax(1) // 4 * 4
    ends = filters.shape[1] - is_used.flip(1).argmax(1)
    if int((ends - firsts).max()) > BINS:
        raise AssertionError(f"a mel filter covers more than {BINS} frequencies from a multiple of 4 on")
    return firsts


def dmel_levels(audio: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """audio (S, n*800) float32, carry (S, 800) -> levels (S, n, 80) uint8, and the next carry."""
    sessions, frames = audio.shape[0], audio.shape[1] // mel_filters.HOP_SAMPLES
    levels = torch.empty((sessions, frames, mel_filters.MEL_BINS), dtype=torch.uint8, device=audio.device)
    if not levels.numel():
        return levels, carry.nan_to_num(0.0, 0.0, 0.0).clamp_(-mel_filters.LOUDEST, mel_filters.LOUDEST)
    tables, new_carry = _tables(audio.device), torch.empty_like(carry, memory_format=torch.contiguous_format)
    rows = sessions * frames
    dmel_levels_kernel[(triton.cdiv(rows, FRAMES), mel_filters.MEL_BINS + 1)](
        whole_rows(audio), whole_rows(carry), *tables, levels, new_carry, rows, frames, audio.shape[1],
        FRAMES=FRAMES, BINS=BINS, STEP=STEP, COLUMNS=tables.cosines.shape[1], THRESHOLDS=THRESHOLDS,
        num_warps=LEVEL_WARPS, num_stages=3, enable_fp_fusion=False,
    )  # fmt: skip
    return levels, new_carry


def dmel_embed(levels: Tensor, table: Tensor, norm_weight: Tensor, eps: float) -> Tensor:
    """levels (F, 80) uint8, table (1280, C), norm_weight (C) -> (F, C)."""
    frames, width = levels.shape[0], table.shape[1]
    out = torch.empty((frames, width), dtype=table.dtype, device=table.device)
    if frames:
        dmel_embed_kernel[(frames,)](
            levels.contiguous(), whole_rows(table), norm_weight.contiguous(), out, width, eps,
            BLOCK=power_of_two(width), AT_ONCE=ROWS_AT_ONCE,
            num_warps=_embed_warps(width), num_stages=1, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def _embed_warps(width: int) -> int:
    """From the width alone, as the norm's tree follows it: eight numbers per thread and row, so 16-byte loads."""
    return min(16, max(1, power_of_two(width) // 256))


def compile_cases() -> list[CompileCase]:
    """The levels, and embeddings of 1,024 and 4,096 numbers."""
    return [_levels_case(), *(_embed_case(width) for width in (1024, 4096))]


def _levels_case() -> CompileCase:
    numbers = ("audio", "carry", "cosines", "sines", "filters", "thresholds", "new_carry")
    return CompileCase(
        name=f"dmel_levels/fp32 {FRAMES}x{BINS}x{STEP}",
        kernel=dmel_levels_kernel,
        signature={
            **dict.fromkeys(numbers, "*fp32"), "firsts": "*i32", "levels": "*u8",
            **dict.fromkeys(("rows", "frames", "samples"), "i32"),
        },
        constexprs={
            "FRAMES": FRAMES, "BINS": BINS, "STEP": STEP, "COLUMNS": mel_filters.FREQUENCIES - 1 + BINS,
            "THRESHOLDS": THRESHOLDS,
        },
        num_warps=LEVEL_WARPS,
        num_stages=3,
        aligned=("samples",),
    )  # fmt: skip


def _embed_case(width: int) -> CompileCase:
    return CompileCase(
        name=f"dmel_embed/bf16 {width}",
        kernel=dmel_embed_kernel,
        signature={
            **dict.fromkeys(("table", "weight", "out"), "*bf16"), "levels": "*u8", "width": "i32", "eps": "fp32",
        },
        constexprs={"BLOCK": power_of_two(width), "AT_ONCE": ROWS_AT_ONCE},
        num_warps=_embed_warps(width),
        num_stages=1,
        aligned=("width",),
    )  # fmt: skip
