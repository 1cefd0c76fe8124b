"""Sound to dMel levels, and levels to embeddings, on the CPU."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from microturn.kernels import mel_filters
from microturn.kernels.cpu.linear import linear
from microturn.kernels.cpu.norm import rms_norm
from microturn.kernels.cpu.packed import pack


def dmel_levels(audio: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """See `microturn.kernels.ops.dmel.dmel_levels`."""
    sound = torch.cat([carry, audio], -1).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    sound.clamp_(-mel_filters.LOUDEST, mel_filters.LOUDEST)
    hops = sound.view(len(sound), -1, mel_filters.HOP_SAMPLES)
    frames = torch.cat([hops[:, :-1], hops[:, 1:]], -1).mul_(mel_filters.hann_window())
    energies = linear(magnitudes(frames.flatten(0, 1)), _packed_filters())
    log_mels = energies.clamp_min_(mel_filters.MEL_FLOOR).log10_()
    levels = torch.bucketize(log_mels, mel_filters.level_edges(), out_int32=True, right=True)
    shape = (*frames.shape[:2], mel_filters.MEL_BINS)
    return levels.to(torch.uint8).view(shape), sound[:, -mel_filters.HOP_SAMPLES :].clone()


@cache
def _packed_filters() -> Tensor:
    filters = mel_filters.mel_filters()
    pack(filters)
    return filters


def magnitudes(frames: Tensor) -> Tensor:
    """`(F, 1600)` -> `(F, 801)`. Each frame is transformed alone: several may be computed by another routine."""
    spectra = torch.empty(frames.shape[0], mel_filters.FREQUENCIES, dtype=torch.complex64)
    for frame, spectrum in zip(frames.unbind(), spectra.unbind(), strict=True):
        spectrum.copy_(torch.fft.rfft(frame))
    squares = torch.view_as_real(spectra).square_()
    return squares[..., 0].add(squares[..., 1]).clamp_min_(mel_filters.POWER_FLOOR).sqrt_()


def dmel_embed(levels: Tensor, table: Tensor, norm_weight: Tensor, eps: float) -> Tensor:
    """See `microturn.kernels.ops.dmel.dmel_embed`."""
    places = levels.long() + _first_rows(levels.shape[1])
    return rms_norm(_summed(places, table), norm_weight.float(), eps).to(table.dtype)


def _summed(places: Tensor, table: Tensor) -> Tensor:
    """Sum the rows of `table` named by `places (F, 80)`, one after the other, in float32: `(F, C)`."""
    if table.dtype != torch.float32:
        # `embedding_bag` would round the sums to the dtype of the table.
        table = table.index_select(0, places.view(-1)).float()
        places = torch.arange(places.numel()).view(places.shape)
    return torch.nn.functional.embedding_bag(places, table, mode="sum")


def _first_rows(bins: int) -> Tensor:
    """Where each bin's rows begin in the table."""
    return torch.arange(bins) * mel_filters.LEVELS
