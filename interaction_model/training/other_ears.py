"""The same scene as other ears would hear it: changed a little, another way each time that it is learned from.

Three changes of the sound, each the same for a whole scene: bins are moved as by a longer or shorter vocal tract, a
microphone's curve is added, and a few bins are deaf. Sources: vocal tract length perturbation (Jaitly and Hinton, 2013);
masks of frequency as in SpecAugment (Park et al., 2019). And some words that the network has written down are wrong, as they
are when it is served; what it should do next is the same. The ranges are our choice.
"""

from __future__ import annotations

import numpy as np

from microturn.interaction_model.native.grammar import MEL_BINS, Bytes, Ints, PositionKind
from microturn.interaction_model.native.vocabulary import WORDS, heard_token
from microturn.kernels.mel_filters import LEVELS

UNCHANGED_SHARE = 0.25
LENGTH_RANGE = (0.92, 1.08)
"""Factor of the place of each bin."""
GAIN_RANGE = (-1.0, 1.0)
"""Levels that are added to all bins; one is a factor of four in a bin of the spectrum."""
TILT_RANGE = (-1.2, 1.2)
"""Levels that are added at the highest bin, and taken away at the lowest."""
DEAF_SHARE = 0.4
WIDEST_DEAFNESS = 8
"""Bins."""
MISHEARD_SHARE = 0.05
"""Of the words that were written down."""
SILENCE = 2
"""The level of digital silence; nothing is below it, and no microphone makes it louder."""


def heard_otherwise(levels: Bytes, random: np.random.Generator) -> Bytes:
    """Change the levels `(F, 80)` of a scene by what is drawn; the given ones stay as they are."""
    if random.random() < UNCHANGED_SHARE:
        return levels
    bins = np.arange(MEL_BINS)
    moved = np.rint(bins * random.uniform(*LENGTH_RANGE)).astype(np.intp).clip(0, MEL_BINS - 1)
    curve = random.uniform(*GAIN_RANGE) + random.uniform(*TILT_RANGE) * (2 * bins / (MEL_BINS - 1) - 1)
    # Levels are whole: what is left over is a chance of one more, drawn for each bin.
    steps = np.floor(curve + random.random(MEL_BINS)).astype(np.int16)
    heard = levels[:, moved].astype(np.int16)
    heard = np.where(heard > SILENCE, (heard + steps).clip(SILENCE, LEVELS - 1), SILENCE)
    if random.random() < DEAF_SHARE:
        width = int(random.integers(1, WIDEST_DEAFNESS + 1))
        first = int(random.integers(0, MEL_BINS - width + 1))
        heard[:, first : first + width] = SILENCE
    return heard.astype(np.uint8)


def misheard(kinds: Bytes, ids: Ints, random: np.random.Generator) -> Ints:
    """Replace some heard words `(T,)` among a scene's outputs by others; the given ids stay as they are."""
    first = heard_token(WORDS[0])
    is_heard = (kinds == PositionKind.OUTPUT) & (ids >= first) & (ids < first + len(WORDS))
    is_wrong = is_heard & (random.random(len(ids)) < MISHEARD_SHARE)
    return np.where(is_wrong, first + random.integers(0, len(WORDS), len(ids)), ids).astype(ids.dtype)
