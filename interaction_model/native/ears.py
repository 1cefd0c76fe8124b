"""Sound to embeddings: four dMel tokens of 50 ms for every micro-turn.

Levels and sums are those of the Inkling models and of `microturn.kernels.mel_filters`. There is no look-ahead; half a
window of sound is carried from call to call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from microturn.interaction_model._errors import BadSoundError
from microturn.interaction_model.native.config import EarsConfig
from microturn.interaction_model.native.norm import RmsNorm
from microturn.kernels.mel_filters import HOP_SAMPLES, LEVELS, MEL_BINS
from microturn.kernels.ops.dmel import dmel_embed, dmel_levels
from microturn.protocols import Samples


@dataclass(frozen=True)
class Hearing:
    """What one session's ears remember: the newest 50 ms. Never changed, so a snapshot is a reference."""

    carry: Tensor
    """(800,) float32"""

    @classmethod
    def begin(cls) -> Hearing:
        """Before the first sound: silence."""
        return cls(torch.zeros(HOP_SAMPLES))

    def hear(self, audio: Samples) -> tuple[Tensor, Hearing]:
        """Turn sound into levels; the bits are the same however the sound is cut into calls.

        Args:
            audio: `(n * 800,)` float32, 16 kHz, mono.

        Returns:
            `(n, 80)` uint8, 0 to 15; and what to go on with.

        Raises:
            BadSoundError: the sound is not whole hops of 50 ms of float32, or holds a number that is not finite.
        """
        _check_sound(audio)
        # A copy, because sound from a socket may lie in memory that must not be written.
        sound = torch.from_numpy(np.array(audio)).unsqueeze(0)
        levels, carry = dmel_levels(sound, self.carry.unsqueeze(0))
        return levels[0], Hearing(carry[0])


class LevelEmbedding(nn.Module):
    """One row for each level of each bin, summed over bins."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_audio_tokens = nn.Embedding(MEL_BINS * LEVELS, width)

    def forward(self, levels: Tensor) -> Tensor:
        """`(..., 80)` integers -> `(..., C)`."""
        first_rows = torch.arange(MEL_BINS, device=levels.device) * LEVELS
        rows = (levels.long() + first_rows).reshape(-1, MEL_BINS)
        table = self.embed_audio_tokens.weight
        summed = nn.functional.embedding_bag(rows, table, mode="sum")
        return summed.view(*levels.shape[:-1], -1)


class Ears(nn.Module):
    """Embeds levels; names of parameters are those of Inkling's audio model."""

    def __init__(self, config: EarsConfig) -> None:
        super().__init__()
        self.embed_audio_tokens = LevelEmbedding(config.width)
        self.norm = RmsNorm(config.width, config.eps)

    def forward(self, levels: Tensor) -> Tensor:
        """`(..., 80)` integers from 0 to 15 -> `(..., C)`, with gradients."""
        normed: Tensor = self.norm(self.embed_audio_tokens(levels))
        return normed

    @torch.no_grad()
    def embed(self, levels: Tensor) -> Tensor:
        """As `forward`, by the batch-invariant operator: `(n, 80)` uint8 -> `(n, C)`."""
        table = self.embed_audio_tokens.embed_audio_tokens.weight
        return dmel_embed(levels.to(table.device), table, self.norm.weight, self.norm.eps)


def _check_sound(audio: Samples) -> None:
    if audio.dtype != np.float32 or audio.ndim != 1 or audio.size == 0 or audio.size % HOP_SAMPLES:
        raise BadSoundError(
            f"the ears expected sound of (n * {HOP_SAMPLES},) float32, 16 kHz, n at least 1, got "
            f"{audio.shape!r} of {audio.dtype.name!r}; give them whole hops of 50 ms"
        )
    if not np.isfinite(audio).all():
        broken = int(audio.size - np.isfinite(audio).sum())
        raise BadSoundError(
            f"the ears expected finite samples, got {broken!r} of {audio.size!r} that are not; "
            "look for a division by zero or an overflow in what makes the sound"
        )
