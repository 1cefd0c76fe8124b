"""Films of the small world, drawn frame by frame: 160 x 120 pixels, ten frames a second.

A film is a recipe: a look, and what moves when. Any frame can be drawn at any time and is always the same. The looks
of the splits, as drawn, share no background, no shade of a colour, no shape of a head and no strength of noise, so that
a test says something about films that were not trained on; `other_eyes` brings shades and noise nearer in training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from microturn.interaction_model.training.canvas import Canvas, Colour, Floats, Point
from microturn.interaction_model.training.figure import Action, Body, paint, pose
from microturn.interaction_model.training.scene import Pixels, SeenThing, Split

HEIGHT, WIDTH = 120, 160
"""Pixels of a frame; 4 x 3 patches."""
FRAME_MS = 100

Pattern = Literal["plain", "slope", "checks", "stripes"]
Shape = Literal["circle", "square", "triangle", "star"]
Span = tuple[int, int]
"""Begin and end in milliseconds."""

_PATTERNS: dict[Split, tuple[Pattern, ...]] = {"train": ("plain", "slope"), "test": ("checks", "stripes")}
_NOISE: dict[Split, tuple[float, float]] = {"train": (0.0, 6.0), "test": (6.5, 10.0)}
_SHADES: dict[str, Colour] = {
    "red": (210, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (235, 215, 50),
    "orange": (240, 140, 30),
    "purple": (140, 60, 170),
    "pink": (245, 150, 190),
    "brown": (125, 80, 40),
}
COLOURS = tuple(_SHADES)
"""Colours that things in films have, each word once."""
SHAPES: tuple[Shape, ...] = get_args(Shape)


@dataclass(frozen=True, slots=True)
class Look:
    """How a film is lit and what is behind what moves."""

    seed: int
    """Of the noise."""
    pattern: Pattern
    tones: tuple[Colour, Colour]
    """Of the background."""
    noise: float
    """Standard deviation of each pixel, of 255."""
    drift: float
    """How far the light swings, as a share."""
    shake: float
    """How far the camera swings, in pixels."""


@dataclass(frozen=True, slots=True)
class Movement:
    """Cycles of one action; between them the figure rests."""

    action: Action
    cycles: tuple[Span, ...]

    def phase(self, time_ms: int) -> float | None:
        """How far the running cycle is, from 0 to 1; None at rest."""
        for begin, end in self.cycles:
            if begin <= time_ms < end:
                return (time_ms - begin) / (end - begin)
        return None


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a thing is and where it goes during some time."""

    span: Span
    shape: Shape
    shade: Colour
    path: tuple[Point, Point]
    """Its centre at the begin and at the end of `span`, in pixels."""
    radius: float

    def centre(self, time_ms: int) -> Point:
        """Where it is at a time inside its span."""
        share = (time_ms - self.span[0]) / (self.span[1] - self.span[0])
        (ax, ay), (bx, by) = self.path
        return ax + share * (bx - ax), ay + share * (by - ay)


@dataclass(frozen=True, slots=True)
class RenderedFilm:
    """A film of things, and of at most one figure in front of them."""

    look: Look
    things: tuple[Stretch, ...] = ()
    body: Body | None = None
    movements: tuple[Movement, ...] = ()
    """What the figure does; their cycles do not overlap."""

    def frame(self, time_ms: int) -> Pixels:
        """Draw the frame of a time: (120, 160, 3) uint8."""
        canvas = Canvas(_background(self.look.pattern, self.look.tones))
        shake = _shake(self.look, time_ms)
        for thing in self._shown(time_ms):
            _paint_thing(canvas, thing, _shifted(thing.centre(time_ms), shake))
        self._paint_figure(canvas, time_ms, shake)
        light = 1 + self.look.drift * math.sin(time_ms / 1700 + self.look.seed % 7)
        noise = _noise(self.look, time_ms // FRAME_MS)
        pixels: Pixels = np.clip(canvas.pixels * np.float32(light) + noise, 0, 255).astype(np.uint8)
        return pixels

    def things_at(self, time_ms: int) -> list[SeenThing]:
        """Return the things in the frame of a time, where the shaking camera shows them, the nearest last."""
        shake = _shake(self.look, time_ms)
        return [
            SeenThing(colour_of(thing.shade), thing.shape, _shifted(thing.centre(time_ms), shake))
            for thing in self._shown(time_ms)
        ]

    def movement_at(self, time_ms: int) -> tuple[Action, float] | None:
        """Return what the figure does at a time and how far its cycle is; None at rest and without a figure."""
        phases = ((each.action, each.phase(time_ms)) for each in self.movements)
        return next(((action, phase) for action, phase in phases if phase is not None), None)

    def _shown(self, time_ms: int) -> list[Stretch]:
        return [thing for thing in self.things if thing.span[0] <= time_ms < thing.span[1]]

    def _paint_figure(self, canvas: Canvas, time_ms: int, shake: Point) -> None:
        if self.body is None:
            return
        running = self.movement_at(time_ms)
        joints = pose(*running) if running else pose(None, 0.0)
        sway = (1.0 * math.sin(time_ms / 900), 0.0)
        at = _shifted(_shifted(self.body.foot, shake), sway)
        moved = Body(
            at,
            self.body.height,
            self.body.thickness,
            self.body.colour,
            self.body.head,
            self.body.mirrored,
        )
        paint(canvas, moved, joints)


def draw_look(rng: np.random.Generator, split: Split) -> Look:
    """Draw a look of a split: training has light grounds without a pattern, testing has patterns and more noise."""
    base = rng.integers(150, 225)
    tones = [
        tuple(int(v) for v in np.clip(base + rng.integers(-20, 21, 3) + step, 0, 255)) for step in (0, -22)
    ]
    patterns = _PATTERNS[split]
    return Look(
        seed=int(rng.integers(2**31)),
        pattern=patterns[int(rng.integers(len(patterns)))],
        tones=((tones[0][0], tones[0][1], tones[0][2]), (tones[1][0], tones[1][1], tones[1][2])),
        noise=float(rng.uniform(*_NOISE[split])),
        drift=float(rng.uniform(0, 0.08)),
        shake=float(rng.uniform(0, 1.5)),
    )


def draw_body(rng: np.random.Generator, split: Split) -> Body:
    """Draw a figure of a split: dark with a round head in training, blue or brown with a square one in testing."""
    dark = ((30, 30, 35), (60, 25, 30), (25, 55, 35), (70, 60, 50))
    other = ((25, 40, 110), (95, 55, 20))
    colours = dark if split == "train" else other
    height = float(rng.uniform(60, 84))
    return Body(
        foot=(float(rng.uniform(45, 115)), float(rng.uniform(106, 114))),
        height=height,
        thickness=float(rng.uniform(1.6, 3.2)),
        colour=colours[int(rng.integers(len(colours)))],
        head="disc" if split == "train" else "square",
        mirrored=bool(rng.random() < 0.5),
    )


def draw_shade(rng: np.random.Generator, split: Split, colour: str) -> Colour:
    """Draw a shade of a named colour: up to 9 levels lighter in training, 10 to 18 levels darker in testing."""
    step = rng.integers(0, 10, 3) if split == "train" else rng.integers(-18, -9, 3)
    red, green, blue = np.clip(np.array(_SHADES[colour]) + step, 0, 255)
    return int(red), int(green), int(blue)


def colour_of(shade: Colour) -> str:
    """The colour that a shade of `draw_shade` is one of: the nearest, of either split."""
    return min(COLOURS, key=lambda colour: math.dist(_SHADES[colour], shade))


def _paint_thing(canvas: Canvas, thing: Stretch, centre: Point) -> None:
    (x, y), r = centre, thing.radius
    match thing.shape:
        case "circle":
            canvas.disc(centre, r, thing.shade)
        case "square":
            s = 0.85 * r
            canvas.polygon([(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)], thing.shade)
        case "triangle":
            canvas.polygon(_triangle(centre, 1.15 * r, up=True), thing.shade)
        case "star":
            # Two triangles, one upside down: a star of six points.
            canvas.polygon(_triangle(centre, 1.15 * r, up=True), thing.shade)
            canvas.polygon(_triangle(centre, 1.15 * r, up=False), thing.shade)


def _triangle(centre: Point, radius: float, *, up: bool) -> list[Point]:
    first = -math.pi / 2 if up else math.pi / 2
    angles = (first + turn * 2 * math.pi / 3 for turn in range(3))
    return [(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles]


def _shake(look: Look, time_ms: int) -> Point:
    return look.shake * math.sin(time_ms / 670 + 1), look.shake * math.sin(time_ms / 530)


def _shifted(point: Point, by: Point) -> Point:
    return point[0] + by[0], point[1] + by[1]


@lru_cache(maxsize=64)
def _background(pattern: Pattern, tones: tuple[Colour, Colour]) -> Floats:
    """(H, W, 3) float32; shared, never painted on."""
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH]
    shares = {
        "plain": np.zeros((HEIGHT, WIDTH)),
        "slope": ys / HEIGHT,
        "checks": ((xs // 16 + ys // 16) % 2).astype(float),
        "stripes": (xs // 12 % 2).astype(float),
    }
    share = shares[pattern][..., None]
    first, second = (np.array(tone, dtype=float) for tone in tones)
    painted: Floats = ((1 - share) * first + share * second).astype(np.float32)
    return painted


@lru_cache(maxsize=16)
def _grain(seed: int) -> Floats:
    """(2 H, 2 W, 3) float32 of unit variance, of which each frame shows another part."""
    return np.random.default_rng(seed).standard_normal((2 * HEIGHT, 2 * WIDTH, 3), dtype=np.float32)


def _noise(look: Look, frame: int) -> Floats:
    # Two odd strides walk through all offsets: no two neighbouring frames show the same part.
    top, left = frame * 53 % HEIGHT, frame * 71 % WIDTH
    noise: Floats = np.float32(look.noise) * _grain(look.seed)[top : top + HEIGHT, left : left + WIDTH]
    return noise
