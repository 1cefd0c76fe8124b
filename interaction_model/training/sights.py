"""What stands and moves in a film: a second thing to learn from every pair of frames.

A thing is named in one word, seconds after it came, which is little to learn seeing from. So the network is also asked at
every patch which thing stands in it, and at the end of every micro-turn what the figure does, by heads that are not
served. The films know the truth. The classes and the weights are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from microturn.interaction_model.native.grammar import Bytes, PositionKind
from microturn.interaction_model.training.canvas import Point
from microturn.interaction_model.training.figure import ACTIONS
from microturn.interaction_model.training.scene import PATCH_PIXELS, Film
from microturn.interaction_model.training.video import COLOURS, SHAPES

UNKNOWN = -1
"""Stands where nothing is asked, or where the truth is not known."""
THINGS = 1 + len(COLOURS) * len(SHAPES)
"""Classes of a patch; 0 is nothing."""
PHASES = 4
"""Parts of a cycle that are told apart."""
MOVEMENTS = 1 + len(ACTIONS) * PHASES
"""Classes of a pair of frames; 0 is rest, or no figure."""
NOTHING_WEIGHT = 0.1
"""How much a patch without a thing counts: eleven or twelve of twelve are so."""
REST_WEIGHT = 0.3


class Sights(NamedTuple):
    """What a pair of frames shows, by its newer frame."""

    things: Bytes
    """(P,) classes below `THINGS`, row by row: of the thing whose centre lies in the patch."""
    movement: int
    """A class below `MOVEMENTS`."""


def sights_of(film: Film, time_ms: int, frame_size: tuple[int, int]) -> Sights:
    """What a film's frame of a time shows; of several things in one patch the nearest.

    Args:
        film: what the camera sees.
        time_ms: of the newer frame of the pair.
        frame_size: height and width in pixels.
    """
    rows, columns = (-(-side // PATCH_PIXELS) for side in frame_size)
    things = np.zeros((rows, columns), np.uint8)
    for thing in film.things_at(time_ms):
        if _is_inside(thing.centre, frame_size):
            x, y = (int(place) // PATCH_PIXELS for place in thing.centre)
            things[y, x] = thing_class(thing.colour, thing.shape)
    moves = film.movement_at(time_ms)
    return Sights(things.ravel(), movement_class(*moves) if moves else 0)


def thing_class(colour: str, shape: str) -> int:
    """The class of a thing, from 1."""
    return 1 + COLOURS.index(colour) * len(SHAPES) + SHAPES.index(shape)


def movement_class(action: str, phase: float) -> int:
    """The class of an action that is so far in its cycle, from 0 to below 1."""
    return 1 + ACTIONS.index(action) * PHASES + int(phase * PHASES)


def sights_by_position(sights: Mapping[int, Sights], kinds: Bytes) -> npt.NDArray[np.int64]:
    """Lay the sights of a scene's micro-turns out beside its positions: `(T,)`.

    Args:
        sights: of every micro-turn that has patches here, or of none.
        kinds: `(T,)` of the scene's first positions, in whole micro-turns.
    """
    found = np.full(len(kinds), UNKNOWN, np.int64)
    if sights:
        asked = np.flatnonzero(kinds == PositionKind.NOW)
        found[kinds == PositionKind.PATCH] = np.concatenate([each.things for each in sights.values()])
        found[asked[list(sights)]] = [each.movement for each in sights.values()]
    return found


class SightHead(nn.Module):
    """Asks hidden states for what is seen."""

    def __init__(self, width: int) -> None:
        """`width` is C of the hidden states."""
        super().__init__()
        self.things = nn.Linear(width, THINGS)
        self.movements = nn.Linear(width, MOVEMENTS)

    def loss(self, hidden: Tensor, kinds: Tensor, sights: Tensor) -> Tensor:
        """The sum of weighted losses over all patches and pairs whose truth is known, in nats.

        Args:
            hidden: `(..., C)`.
            kinds: `(...)` of `PositionKind`.
            sights: `(...)` int64: at patches the thing, at NOW the movement, elsewhere `UNKNOWN`.
        """
        is_known = sights != UNKNOWN
        is_thing, is_movement = (
            is_known & (kinds == kind) for kind in (PositionKind.PATCH, PositionKind.NOW)
        )
        things = _entropy(self.things(hidden[is_thing]), sights[is_thing], NOTHING_WEIGHT)
        return things + _entropy(self.movements(hidden[is_movement]), sights[is_movement], REST_WEIGHT)


def _entropy(scores: Tensor, targets: Tensor, first_weight: float) -> Tensor:
    weights = torch.ones(scores.shape[-1], device=scores.device)
    weights[0] = first_weight
    return functional.cross_entropy(scores.float(), targets, weights, reduction="sum")


def _is_inside(centre: Point, frame_size: tuple[int, int]) -> bool:
    (x, y), (height, width) = centre, frame_size
    return 0 <= x < width and 0 <= y < height
