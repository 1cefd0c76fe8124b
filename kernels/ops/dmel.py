"""Sound to dMel levels, and levels to embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from microturn.kernels._errors import BadShapeError
from microturn.kernels.cpu import dmel as cpu
from microturn.kernels.library import define
from microturn.kernels.mel_filters import HOP_SAMPLES, LEVELS, MEL_BINS


def _dmel_levels_fake(audio: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    shape = (audio.shape[0], audio.shape[1] // HOP_SAMPLES, MEL_BINS)
    return audio.new_empty(shape, dtype=torch.uint8), carry.new_empty(carry.shape)


_dmel_levels = define(
    "dmel_levels(Tensor audio, Tensor carry) -> (Tensor, Tensor)",
    cpu=cpu.dmel_levels,
    gpu="dmel:dmel_levels",
    fake=_dmel_levels_fake,
)
_dmel_embed = define(
    "dmel_embed(Tensor levels, Tensor table, Tensor norm_weight, float eps) -> Tensor",
    cpu=cpu.dmel_embed,
    gpu="dmel:dmel_embed",
    fake=lambda levels, table, norm_weight, eps: table.new_empty((levels.shape[0], table.shape[1])),
)


def dmel_levels(audio: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
    """Round a log-mel spectrogram to 16 levels: one frame of 80 bins for every 800 samples (50 ms).

    A frame sees the 800 samples before it and its own, so its levels are the same however the sound was cut into
    calls. Steps and constants are those of the Inkling models (`microturn.kernels.mel_filters`): periodic Hann
    window, Fourier transform of 1,600 samples, magnitudes, 80 Slaney filters from 0 to 8 kHz, log10 clamped to
    [-7, 2], the nearest of 16 evenly spaced centres, the lower one of two equally near.

    A sample that is NaN or infinite counts as silence, and one beyond +-1e6 as +-1e6: one broken sample then spoils
    two frames of one session and nothing else.

    Args:
        audio: `(S, n * 800)` float32, mono, 16 kHz, in [-1, 1], oldest first.
        carry: `(S, 800)` float32: the samples before `audio`; zeros at the start of a session.

    Returns:
        `levels (S, n, 80)` uint8, 0 to 15, lowest frequency first; and the `carry` of the next call.

    Raises:
        BadShapeError: `audio` is not whole hops of float32, or `carry` does not fit it.
    """
    if audio.dim() != 2 or audio.shape[1] % HOP_SAMPLES or audio.dtype != torch.float32:
        raise BadShapeError(
            "dmel_levels", "audio", expected="(S, n * 800) of float32", got=(audio.dtype, *audio.shape)
        )
    if carry.shape != (audio.shape[0], HOP_SAMPLES) or carry.dtype != torch.float32:
        expected = f"({audio.shape[0]}, 800) of float32"
        raise BadShapeError("dmel_levels", "carry", expected=expected, got=(carry.dtype, *carry.shape))
    levels, kept = _dmel_levels(audio, carry)
    return levels, kept


def dmel_embed(levels: Tensor, table: Tensor, norm_weight: Tensor, eps: float) -> Tensor:
    """Embed frames: the rows of their 80 levels are added in the order of bins, then normed.

    The sum and the norm are in float32, with one rounding at the end.

    Args:
        levels: `(F, 80)` uint8, each from 0 to 15.
        table: `(1280, C)`, float32 or bfloat16: bin b at level l is row `b * 16 + l`.
        norm_weight: `(C,)`, of the root-mean-square norm.
        eps: of that norm.

    Returns:
        `(F, C)`, the dtype of `table`.

    Raises:
        BadShapeError: the shapes or dtypes do not fit.
    """
    if levels.dim() != 2 or levels.shape[1] != MEL_BINS or levels.dtype != torch.uint8:
        raise BadShapeError(
            "dmel_embed", "levels", expected=f"(F, {MEL_BINS}) of uint8", got=(levels.dtype, *levels.shape)
        )
    if table.dim() != 2 or table.shape[0] != MEL_BINS * LEVELS:
        expected = f"({MEL_BINS * LEVELS}, C)"
        raise BadShapeError("dmel_embed", "table", expected=expected, got=tuple(table.shape))
    if norm_weight.shape != table.shape[1:]:
        expected = f"({table.shape[1]},), the width of the table"
        raise BadShapeError("dmel_embed", "norm_weight", expected=expected, got=tuple(norm_weight.shape))
    result: Tensor = _dmel_embed(levels, table, norm_weight, eps)
    return result
