"""The native model's ears and eyes alone, and what a picture that is too large costs before it is looked at."""

from __future__ import annotations

import numpy as np
from native_figures import Rows, Variant, taking_turns
from native_stage import Stage, pictures, sound

from microturn.interaction_model.native.ears import Hearing
from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.network import Network


def senses(stage: Stage, network: Network, budget_s: float) -> Rows:
    """One micro-turn of sound, and pairs of pictures, to embeddings."""
    ears, eyes = network.audio_tower, network.vision_tower
    hearing, heard = Hearing.begin(), sound()
    small, large = (
        np.stack([frame.pixels for frame in pictures(*size)]) for size in ((160, 120), (320, 240))
    )
    perception, frames = stage.model._perception, pictures(320, 240)
    variants = {
        "dMel, 200 ms of sound": Variant(lambda: ears.embed(hearing.hear(heard)[0])),
        "hMLP, a pair of 160 x 120, 12 patches": Variant(lambda: eyes.embed(cut_patches(small, eyes.config))),
        "hMLP, a pair of 320 x 240, 48 patches": Variant(lambda: eyes.embed(cut_patches(large, eyes.config))),
        "choosing a pair of 320 x 240 and making it smaller": Variant(lambda: perception.look(frames)),
    }
    return {
        name: spans.row() for name, spans in taking_turns(variants, rounds=200, budget_s=budget_s).items()
    }
