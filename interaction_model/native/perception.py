"""What arrives in a step becomes embeddings: sound, pictures, words and the time, laid out as the network learned it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microturn.interaction_model.native._errors import BadFramesError
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.eyes import cut_patches, patch_grid
from microturn.interaction_model.native.grammar import AUDIO_TOKENS, Inputs, PositionKind, lay_out
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.stopwatches import Times
from microturn.interaction_model.native.vocabulary import Token
from microturn.protocols import Frame

FRAME_SPACING_MS = 100
"""Time between the two frames of a token, as in training."""
MAX_PATCHES = 12
"""Patches of 160 x 120 pixels, as in training; larger pictures are made smaller."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """What one step brings to one session."""

    times: tuple[Times, ...]
    """Of each of its n micro-turns, what the clock shows."""
    levels: Tensor
    """(4 n, 80) uint8: the sound of n micro-turns."""
    inputs: Inputs
    """What came beside the sound of the newest."""
    pixels: Pixels | None
    """(2 or 1, H, W, 3): what `inputs.patches` are cut from."""

    @property
    def turns(self) -> int:
        """n"""
        return len(self.levels) // AUDIO_TOKENS


class Perception:
    """Embeds arrivals of several sessions at once; no bit of one depends on the others.

    Args:
        network: its ears, eyes and clock.
        decoder: embeds tokens.
    """

    def __init__(self, network: Network, decoder: Decoder) -> None:
        self._ears, self._eyes, self._clock = network.audio_tower, network.vision_tower, network.clock
        self._decoder = decoder
        self._device = network.lm_head.weight.device

    def look(self, frames: Sequence[Frame]) -> Pixels | None:
        """Choose the pictures of a step: the newest and the one of its size nearest to 100 ms before it.

        Returns:
            `(2, H, W, 3)`; `(1, H, W, 3)` for a still picture if only one came; None without frames. Pictures of more
            than `MAX_PATCHES` are made smaller by a whole number.

        Raises:
            BadFramesError: the newest is no RGB picture of uint8.
        """
        if not frames:
            return None
        newest = max(frames, key=lambda frame: frame.time_ms)
        _check(newest.pixels)
        return self._reduced(_pair(newest, frames))

    def _reduced(self, pixels: Pixels) -> Pixels:
        """The means of squares, of the smallest side with which the pictures have few enough patches."""
        side = 1
        while self.patches(pixels[:, ::side, ::side]) > MAX_PATCHES:
            side += 1
        if side == 1:
            return pixels
        tall, wide = (min(side, size) for size in pixels.shape[1:3])
        height, width = pixels.shape[1] // tall, pixels.shape[2] // wide
        squares = pixels[:, : height * tall, : width * wide].reshape(-1, height, tall, width, wide, 3)
        means = np.rint(squares.mean((2, 4), np.float32))
        return np.asarray(means, np.uint8)

    def patches(self, pixels: Pixels | None) -> int:
        """How many tokens the pictures of a step become."""
        if pixels is None:
            return 0
        height, width = pixels.shape[1:3]
        rows, columns = patch_grid(height, width, self._eyes.config.patch)
        return rows * columns

    @torch.inference_mode()
    def embed(self, arrivals: Sequence[Arrival]) -> list[Tensor]:
        """Return the embeddings `(T, C)` of what each session is to compute; the last one is its query.

        Micro-turns that were missed are laid out as ones in which nothing was said: their sound and a query each.
        """
        laid = [_laid_out(arrival) for arrival in arrivals]
        kinds, ids = (torch.from_numpy(np.concatenate(part)) for part in zip(*laid, strict=True))
        kinds, ids = kinds.to(self._device), ids.to(self._device)
        made_elsewhere = (kinds == PositionKind.AUDIO) | (kinds == PositionKind.PATCH)
        x = self._decoder.embed(ids.masked_fill(made_elsewhere, int(Token.AUDIO)))
        x[kinds == PositionKind.AUDIO] = self._ears.embed(torch.cat([each.levels for each in arrivals]))
        seen = [cut_patches(each.pixels, self._eyes.config) for each in arrivals if each.pixels is not None]
        if seen:
            x[kinds == PositionKind.PATCH] = self._eyes.embed(torch.cat(seen).to(self._device))
        times = [shown for each in arrivals for shown in each.times]
        x[kinds == PositionKind.NOW] += self._clock.embed(torch.tensor(times, device=self._device))
        return list(x.split([len(own) for own, _ in laid]))


def _pair(newest: Frame, frames: Sequence[Frame]) -> Pixels:
    """The newest frame behind the one of its size nearest to 100 ms before it, or alone."""
    others = [
        frame
        for frame in frames
        if frame is not newest
        and frame.pixels.shape == newest.pixels.shape
        and frame.pixels.dtype == np.uint8
    ]
    if not others:
        return newest.pixels[None]
    wanted = newest.time_ms - FRAME_SPACING_MS
    earlier = min(others, key=lambda frame: abs(frame.time_ms - wanted))
    return np.stack([earlier.pixels, newest.pixels])


def _check(pixels: Pixels) -> None:
    fits = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8 and pixels.size > 0
    if not fits:
        raise BadFramesError(expected="(H, W, 3) of uint8", got=(pixels.dtype.name, *pixels.shape))


def _laid_out(arrival: Arrival) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Kinds and ids of all positions."""
    missed = [lay_out(Inputs(), first_frame=0, first_patch=0)] * (arrival.turns - 1)
    parts = [*missed, lay_out(arrival.inputs, first_frame=0, first_patch=0)]
    kinds = np.concatenate([part.kinds for part in parts])
    return kinds, np.concatenate([part.ids for part in parts]).astype(np.int64)
