"""Mean and spread of the mouth's frames, by which the flow head norms them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model.native.flow_head import PAST_FRAMES
from microturn.interaction_model.native.pronunciation import SILENCE
from microturn.interaction_model.training.scene_shards import MouthTargets

SMALLEST_SCALE = 0.05
"""A number that hardly moves is not blown up."""


def frame_moments(mouths: Iterable[MouthTargets]) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation `(48,)` of each number over the frames where something is said; None without any."""
    said = []
    for mouth in mouths:
        is_said = mouth.symbols[:, PAST_FRAMES:, 1] != SILENCE
        said.append(torch.from_numpy(mouth.frames[:, PAST_FRAMES:][is_said].astype(np.float64)))
    frames = torch.cat(said) if said else torch.zeros(0)
    if len(frames) < 2:
        return None
    return frames.mean(0).float(), frames.std(0).clamp_min(SMALLEST_SCALE).float()
