"""A stick figure and its movements: squat, jump, push and wave, each a cycle from rest to rest.

Lengths are shares of the figure's height, taken by eye. A pose is where the joints are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from microturn.interaction_model.training.canvas import Canvas, Colour, Point

Action = Literal["squat", "jump", "push", "wave"]
ACTIONS: tuple[Action, ...] = ("squat", "jump", "push", "wave")

_BONES = (
    ("neck", "pelvis"),
    ("pelvis", "left knee"),
    ("left knee", "left foot"),
    ("pelvis", "right knee"),
    ("right knee", "right foot"),
    ("neck", "left elbow"),
    ("left elbow", "left hand"),
    ("neck", "right elbow"),
    ("right elbow", "right hand"),
)
_REST: Mapping[str, Point] = {
    "head": (0.0, -0.90),
    "neck": (0.0, -0.78),
    "pelvis": (0.0, -0.45),
    "left knee": (-0.07, -0.23),
    "right knee": (0.07, -0.23),
    "left foot": (-0.09, 0.0),
    "right foot": (0.09, 0.0),
    "left elbow": (-0.13, -0.62),
    "right elbow": (0.13, -0.62),
    "left hand": (-0.15, -0.44),
    "right hand": (0.15, -0.44),
}
_UPPER = ("head", "neck", "pelvis", "left elbow", "right elbow", "left hand", "right hand")


@dataclass(frozen=True, slots=True)
class Body:
    """How a figure looks and where it stands."""

    foot: Point
    """The ground between its feet, in pixels."""
    height: float
    """In pixels."""
    thickness: float
    """Half the width of a limb, in pixels."""
    colour: Colour
    head: Literal["disc", "square"]
    mirrored: bool


def pose(action: Action | None, phase: float) -> dict[str, Point]:
    """Return the joints in shares of the height, from the ground between the feet.

    `phase` runs from 0 to 1 through one cycle; both ends are rest. No action is rest.
    """
    joints = dict(_REST)
    depth = (1 - math.cos(2 * math.pi * phase)) / 2
    lifted = min(1.0, 4 * depth)
    match action:
        case "squat":
            _squat(joints, depth)
        case "jump":
            _jump(joints, depth)
        case "push":
            _push(joints, depth, lifted)
        case "wave":
            _wave(joints, phase, lifted)
        case None:
            pass
    return joints


def paint(canvas: Canvas, body: Body, joints: Mapping[str, Point]) -> None:
    """Paint a figure in a pose."""
    side = -1 if body.mirrored else 1
    placed = {
        name: (body.foot[0] + side * x * body.height, body.foot[1] + y * body.height)
        for name, (x, y) in joints.items()
    }
    for first, second in _BONES:
        canvas.capsule(placed[first], placed[second], body.thickness, body.colour)
    _paint_head(canvas, body, placed["head"])


def _paint_head(canvas: Canvas, body: Body, centre: Point) -> None:
    radius = 0.085 * body.height
    if body.head == "disc":
        canvas.disc(centre, radius, body.colour)
        return
    (x, y), r = centre, radius * 0.9
    canvas.polygon([(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)], body.colour)


def _move(joints: dict[str, Point], names: tuple[str, ...], dx: float, dy: float) -> None:
    for name in names:
        x, y = joints[name]
        joints[name] = (x + dx, y + dy)


def _squat(joints: dict[str, Point], depth: float) -> None:
    _move(joints, _UPPER, -0.04 * depth, 0.22 * depth)
    _move(joints, ("left knee",), -0.10 * depth, 0.02 * depth)
    _move(joints, ("right knee",), 0.10 * depth, 0.02 * depth)
    _move(joints, ("left hand", "right hand"), 0.12 * depth, -0.20 * depth)


def _jump(joints: dict[str, Point], depth: float) -> None:
    _move(joints, tuple(joints), 0.0, -0.22 * depth)
    _move(joints, ("left elbow", "right elbow"), 0.0, -0.20 * depth)
    _move(joints, ("left hand", "right hand"), 0.0, -0.55 * depth)


def _push(joints: dict[str, Point], depth: float, lifted: float) -> None:
    # Both hands come to the chest and go out to one side.
    for name, x in (("left", 0.04), ("right", 0.08)):
        _reach(joints, f"{name} elbow", (x + 0.08 + 0.08 * depth, -0.64 - 0.04 * depth), lifted)
        _reach(joints, f"{name} hand", (x + 0.06 + 0.30 * depth, -0.70), lifted)


def _wave(joints: dict[str, Point], phase: float, lifted: float) -> None:
    swing = 0.14 * math.sin(2 * math.pi * phase)
    _reach(joints, "right elbow", (0.18, -0.74), lifted)
    _reach(joints, "right hand", (0.20 + swing, -0.98 + abs(swing) / 3), lifted)


def _reach(joints: dict[str, Point], name: str, target: Point, share: float) -> None:
    """Move a joint by a share of its way to a target."""
    x, y = joints[name]
    joints[name] = (x + share * (target[0] - x), y + share * (target[1] - y))
