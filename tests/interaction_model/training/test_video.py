"""Films: the same frame every time, motion where it is said to be, and looks that the splits do not share."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from microturn.interaction_model.training.canvas import Canvas, Colour, Floats, Point
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.figure import ACTIONS, Action, pose
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene import Pixels, Split
from microturn.interaction_model.training.video import (
    COLOURS,
    HEIGHT,
    WIDTH,
    Look,
    Movement,
    RenderedFilm,
    Shape,
    Stretch,
    draw_body,
    draw_look,
    draw_shade,
)

pytestmark = pytest.mark.unit

RED: Colour = (255, 0, 0)
STILL = Look(
    seed=3, pattern="plain", tones=((200, 200, 200), (200, 200, 200)), noise=0.0, drift=0.0, shake=0.0
)


def white(height: int = 20, width: int = 30) -> Floats:
    return np.full((height, width, 3), 255, dtype=np.float32)


def area(canvas: Canvas) -> float:
    """Painted area in pixels: red on white takes away green."""
    return float((255 - canvas.pixels[..., 1]).sum() / 255)


def farthest(first: dict[str, Point], second: dict[str, Point]) -> float:
    """The longest way of a joint from one pose to another."""
    return max(math.dist(first[name], second[name]) for name in first)


def moved(first: Pixels, second: Pixels) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def test_painted_areas_are_those_of_geometry() -> None:
    canvas = Canvas(white())
    canvas.disc((10.0, 10.0), 5.0, RED)
    assert area(canvas) == pytest.approx(np.pi * 25, rel=0.02)
    canvas = Canvas(white())
    canvas.capsule((8.0, 10.0), (20.0, 10.0), 3.0, RED)
    assert area(canvas) == pytest.approx(np.pi * 9 + 12 * 6, rel=0.02)
    canvas = Canvas(white())
    canvas.polygon([(5, 5), (15, 5), (15, 12), (5, 12)], RED)
    assert area(canvas) == pytest.approx(70, rel=0.02)


def test_shapes_are_cut_off_at_the_edge_and_never_painted_beyond_it() -> None:
    canvas = Canvas(white())
    canvas.disc((0.0, 10.0), 5.0, RED)
    assert area(canvas) == pytest.approx(np.pi * 25 / 2, rel=0.03)
    canvas = Canvas(white())
    canvas.disc((-50.0, 10.0), 5.0, RED)
    canvas.polygon([(100, 100), (120, 100), (110, 120)], RED)
    assert area(canvas) == 0


def test_a_canvas_leaves_its_background_alone() -> None:
    background = white()
    Canvas(background).disc((10.0, 10.0), 5.0, RED)
    assert (background == 255).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_goes_from_rest_to_rest_without_a_jump(action: Action) -> None:
    rest = pose(None, 0.0)
    assert farthest(pose(action, 0.0), rest) < 1e-9
    assert farthest(pose(action, 1.0), rest) < 1e-9
    assert farthest(pose(action, 0.3), rest) > 0.1
    steps = np.linspace(0, 1, 41)
    for first, second in pairwise(steps):
        assert farthest(pose(action, float(first)), pose(action, float(second))) < 0.15


def test_the_actions_differ_from_one_another() -> None:
    poses = [pose(action, 0.4) for action in ACTIONS]
    for place, one in enumerate(poses):
        for other in poses[place + 1 :]:
            assert farthest(one, other) > 0.1


def test_a_film_is_drawn_the_same_every_time_and_in_any_order() -> None:
    scene = Mixture(estimated_cast(), "test").scene_of("repetitions", 1)
    again = Mixture(estimated_cast(), "test").scene_of("repetitions", 1)
    turns = [0, 7, 20]
    first = [scene.frames(turn) for turn in turns]
    second = [again.frames(turn) for turn in reversed(turns)][::-1]
    for one, two in zip(first, second, strict=True):
        assert one is not None and two is not None
        assert one.shape == (2, HEIGHT, WIDTH, 3) and one.dtype == np.uint8
        assert np.array_equal(one, two)


def test_a_scene_without_a_film_has_no_frames_and_no_patches() -> None:
    scene = Mixture(estimated_cast(), "train").scene_of("repetitions", 1)
    assert {each.patches for each in scene.inputs()} == {12}
    quiet = next(
        scene for scene in Mixture(estimated_cast(), "train", {"quiet": 1.0}).scenes() if scene.film is None
    )
    assert quiet.frames(0) is None
    assert {each.patches for each in quiet.inputs()} == {0}


def test_a_figure_moves_in_its_cycles_only() -> None:
    rng = np.random.default_rng(0)
    movement = Movement("squat", ((1000, 2000), (3000, 4000)))
    film = RenderedFilm(STILL, (), draw_body(rng, "train"), (movement,))
    assert [movement.phase(time) for time in (999, 1000, 1500, 2000, 3250)] == [None, 0.0, 0.5, None, 0.25]
    rest = RenderedFilm(STILL, (), film.body)
    assert np.array_equal(film.frame(2500), rest.frame(2500))
    assert moved(film.frame(1500), rest.frame(1500)) > 60
    assert moved(film.frame(3500), rest.frame(3500)) > 60


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star"])
def test_a_thing_is_where_and_when_its_stretch_says(shape: Shape) -> None:
    thing = Stretch((1000, 2000), shape, (10, 20, 200), ((40.0, 60.0), (120.0, 60.0)), 12.0)
    film = RenderedFilm(STILL, (thing,))
    empty = RenderedFilm(STILL)
    assert np.array_equal(film.frame(900), empty.frame(900))
    assert np.array_equal(film.frame(2000), empty.frame(2000))
    assert film.frame(1500)[60, 80].tolist() == [10, 20, 200]
    assert film.frame(1000)[60, 40].tolist() == [10, 20, 200]
    assert film.frame(1500)[60, 40].tolist() == [200, 200, 200]


@pytest.mark.parametrize("seed", range(20))
def test_the_looks_of_the_splits_have_nothing_in_common(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train, test = draw_look(rng, "train"), draw_look(rng, "test")
    assert train.pattern != test.pattern
    assert train.noise < test.noise
    assert draw_body(rng, "train").colour != draw_body(rng, "test").colour
    assert draw_body(rng, "train").head != draw_body(rng, "test").head


@pytest.mark.parametrize("split", ["train", "test"])
def test_colours_are_told_apart_by_their_nearest_shade(split: Split) -> None:
    rng = np.random.default_rng(5)
    plain = {
        colour: np.mean([draw_shade(rng, split, colour) for _ in range(20)], axis=0) for colour in COLOURS
    }
    for colour in COLOURS:
        shade = np.array(draw_shade(rng, split, colour))
        nearest = min(plain, key=lambda each: float(np.linalg.norm(plain[each] - shade)))
        assert nearest == colour


def test_a_test_shade_is_never_a_training_shade() -> None:
    rng = np.random.default_rng(6)
    for colour in COLOURS:
        train = {draw_shade(rng, "train", colour) for _ in range(200)}
        assert train.isdisjoint(draw_shade(rng, "test", colour) for _ in range(200))


def test_noise_differs_from_frame_to_frame_and_has_the_strength_of_its_look() -> None:
    look = Look(seed=4, pattern="plain", tones=((128, 128, 128),) * 2, noise=6.0, drift=0.0, shake=0.0)
    film = RenderedFilm(look)
    frames = [film.frame(time).astype(float) for time in (0, 100, 200)]
    for first, second in pairwise(frames):
        assert np.std(first - second) == pytest.approx(6 * np.sqrt(2), rel=0.05)


def test_a_figure_does_one_thing_after_another() -> None:
    body = draw_body(np.random.default_rng(0), "train")
    squat, jump = Movement("squat", ((0, 1000),)), Movement("jump", ((1000, 2000),))
    both = RenderedFilm(STILL, (), body, (squat, jump))
    assert np.array_equal(both.frame(400), RenderedFilm(STILL, (), body, (squat,)).frame(400))
    assert np.array_equal(both.frame(1400), RenderedFilm(STILL, (), body, (jump,)).frame(1400))


def test_what_is_counted_is_what_was_asked_for() -> None:
    mixture = Mixture(estimated_cast(), "train")
    with_others = 0
    for scene in (mixture.scene_of("repetitions", seed) for seed in range(30)):
        assert isinstance(scene.film, RenderedFilm)
        *others, asked = scene.film.movements
        with_others += bool(others)
        counted = [(m.start_ms, m.end_ms) for m in scene.moments if m.kind == "repetition"]
        assert counted == list(asked.cycles)
        assert all(other.action != asked.action for other in others)
        assert all(other.cycles[-1][1] < counted[0][0] for other in others)
    assert 2 <= with_others <= 15


def test_a_thing_that_never_comes_is_never_announced() -> None:
    mixture = Mixture(estimated_cast(), "train")
    scenes = [mixture.scene_of("appearance", seed) for seed in range(40)]
    silent = [scene for scene in scenes if not any(due.kind == "event" for due in scene.due)]
    assert 1 <= len(silent) <= 14
    for scene in silent:
        assert isinstance(scene.film, RenderedFilm) and scene.film.things
        assert [word.word for word in scene.speech] == ["okay"]
