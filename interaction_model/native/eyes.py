"""Camera frames to embeddings: one token for every patch of 40 x 40 pixels over two frames."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from microturn.interaction_model.native._errors import BadFramesError
from microturn.interaction_model.native.config import EyesConfig
from microturn.interaction_model.native.eye_plan import COLOURS, Fold, plan
from microturn.interaction_model.native.norm import RmsNorm
from microturn.kernels.ops.linear import linear
from microturn.kernels.ops.norm import rms_norm

COLOUR_MEANS = (0.48145466, 0.4578275, 0.40821073)
COLOUR_STDS = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in [0, 1]: CLIP's (Radford et al., 2021), which Inkling uses."""

OUTSIDE = -1.0
"""The colour, of 0 to 255, of places beyond a frame's right and lower edge: Inkling's, just darker than black."""


def patch_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """Rows and columns of patches that cover a frame.

    Inkling adds an empty column to frames whose width is a multiple of the patch; we do not.
    """
    return -(-height // patch), -(-width // patch)


def cut_patches(frames: NDArray[np.uint8], config: EyesConfig) -> Tensor:
    """Cut frames into normed patches, row by row from the upper left.

    A frame whose sides are no multiples of the patch is filled up at the right and below with `OUTSIDE`.

    Args:
        frames: `(config.frames, H, W, 3)` uint8, oldest first; or `(1, H, W, 3)`, which stands for a still picture.
        config: sizes of the eyes.

    Returns:
        `(P, config.frames, patch, patch, 3)` float32, P = rows * columns of `patch_grid`.

    Raises:
        BadFramesError: another shape or dtype.
    """
    _check_frames(frames, config)
    pixels = torch.from_numpy(frames.astype(np.float32))
    if len(pixels) < config.frames:
        pixels = pixels.expand(config.frames, -1, -1, -1)
    height, width = pixels.shape[1:3]
    rows, columns = patch_grid(height, width, config.patch)
    missing = (0, 0, 0, columns * config.patch - width, 0, rows * config.patch - height)
    padded = F.pad(pixels, missing, value=OUTSIDE)
    normed = (padded / 255.0 - torch.tensor(COLOUR_MEANS)) / torch.tensor(COLOUR_STDS)
    cut = normed.view(config.frames, rows, config.patch, columns, config.patch, COLOURS)
    return cut.permute(1, 3, 0, 2, 4, 5).flatten(0, 1)


class FoldLayer(nn.Module):
    """Folds neighbouring places into one and mixes their channels."""

    def __init__(self, fold: Fold, eps: float, *, is_last: bool) -> None:
        super().__init__()
        self.fold = fold
        self.projection = nn.Linear(fold.inputs, fold.outputs, bias=False)
        self.layer_norm = None if is_last else RmsNorm(fold.outputs, eps)

    def forward(self, x: Tensor) -> Tensor:
        """`(P, F, H, W, C)` -> the same with fewer places and other channels."""
        mixed: Tensor = self.projection(_folded(x, self.fold))
        return mixed if self.layer_norm is None else F.gelu(self.layer_norm(mixed))

    def embed(self, x: Tensor) -> Tensor:
        """As `forward`, by the batch-invariant operators."""
        mixed = linear(_folded(x, self.fold), self.projection.weight)
        if self.layer_norm is None:
            return mixed
        return F.gelu(rms_norm(mixed, self.layer_norm.weight, self.layer_norm.eps))


class Eyes(nn.Module):
    """The patch encoder; names of parameters are those of Inkling's vision model."""

    def __init__(self, config: EyesConfig) -> None:
        super().__init__()
        self.config = config
        folds = plan(config)
        self.encoder_layers = nn.ModuleList(
            FoldLayer(fold, config.eps, is_last=number == len(folds) - 1) for number, fold in enumerate(folds)
        )
        self.final_norm = RmsNorm(config.width, config.eps)

    def forward(self, patches: Tensor) -> Tensor:
        """`(P, frames, patch, patch, 3)` -> `(P, C)`, with gradients."""
        x = patches
        for layer in self.encoder_layers:
            x = layer(x)
        normed: Tensor = self.final_norm(x.flatten(1))
        return normed

    @torch.no_grad()
    def embed(self, patches: Tensor) -> Tensor:
        """As `forward`, by the batch-invariant operators: a patch's bits do not depend on the others."""
        x = patches.to(self.final_norm.weight)
        for layer in self.encoder_layers:
            assert isinstance(layer, FoldLayer)
            x = layer.embed(x)
        return rms_norm(x.flatten(1), self.final_norm.weight, self.final_norm.eps)


def _folded(x: Tensor, fold: Fold) -> Tensor:
    """`(P, F, H, W, C)` -> `(P, F / f, H / s, W / s, f * s * s * C)`."""
    if fold.frames == fold.side == 1:
        return x
    cut = x.unflatten(3, (-1, fold.side)).unflatten(2, (-1, fold.side)).unflatten(1, (-1, fold.frames))
    folded: Tensor = cut.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)
    return folded


def _check_frames(frames: NDArray[np.uint8], config: EyesConfig) -> None:
    expected = f"({config.frames} or 1, H, W, 3) of uint8, H and W at least 1"
    if frames.ndim != 4 or frames.shape[3] != COLOURS or frames.dtype != np.uint8:
        raise BadFramesError(expected=expected, got=(frames.dtype.name, *frames.shape))
    if frames.shape[0] not in (1, config.frames) or 0 in frames.shape:
        raise BadFramesError(expected=expected, got=(frames.dtype.name, *frames.shape))
