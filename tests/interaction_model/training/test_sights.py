"""What a film shows is known exactly, lies beside its positions, and is learned from hidden states."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.grammar import PositionKind
from microturn.interaction_model.training.batches import Collator
from microturn.interaction_model.training.cast import estimated_cast
from microturn.interaction_model.training.epoch import SceneRef
from microturn.interaction_model.training.feature_shards import scene_sights
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene import Split
from microturn.interaction_model.training.scene_shards import SceneShard, write_shard
from microturn.interaction_model.training.sights import (
    MOVEMENTS,
    THINGS,
    UNKNOWN,
    SightHead,
    Sights,
    movement_class,
    sights_of,
    thing_class,
)
from microturn.interaction_model.training.video import (
    COLOURS,
    HEIGHT,
    SHAPES,
    WIDTH,
    Look,
    Movement,
    RenderedFilm,
    Shape,
    Span,
    Stretch,
    colour_of,
    draw_body,
    draw_shade,
)
from tests.interaction_model.training.small_run import EYES, PATCHES, TASKS, sights_in, stored

pytestmark = pytest.mark.unit

STILL = Look(seed=3, pattern="plain", tones=((200,) * 3,) * 2, noise=0.0, drift=0.0, shake=0.0)
RED, BLUE = (212, 45, 41), (50, 80, 215)
SIZE = (HEIGHT, WIDTH)


def thing(shape: Shape, shade: tuple[int, int, int], x: float, y: float, span: Span = (0, 9000)) -> Stretch:
    return Stretch(span, shape, shade, ((x, y), (x, y)), 12.0)


def classes_at(film: RenderedFilm, time_ms: int) -> list[int]:
    return [*map(int, sights_of(film, time_ms, SIZE).things)]


def test_every_thing_and_every_part_of_an_action_has_a_class_of_its_own() -> None:
    things = {thing_class(colour, shape) for colour in COLOURS for shape in SHAPES}
    assert things == set(range(1, THINGS))
    actions = ("squat", "jump", "push", "wave")
    movements = {movement_class(action, phase) for action in actions for phase in (0.0, 0.3, 0.6, 0.99)}
    assert movements == set(range(1, MOVEMENTS))


def test_the_patch_of_its_centre_shows_a_thing_while_it_is_there() -> None:
    film = RenderedFilm(STILL, (thing("star", BLUE, 85.0, 41.0, (1000, 2000)),))
    assert classes_at(film, 900) == [0] * 12
    assert classes_at(film, 1000) == [0] * 6 + [thing_class("blue", "star")] + [0] * 5
    assert classes_at(film, 2000) == [0] * 12


def test_of_two_things_in_a_patch_the_nearer_is_seen_and_outside_there_is_nothing() -> None:
    behind, before = thing("circle", RED, 20.0, 20.0), thing("square", BLUE, 25.0, 22.0)
    outside = [thing("circle", RED, x, y) for x, y in ((-1.0, 20.0), (160.0, 20.0), (20.0, 120.0))]
    film = RenderedFilm(STILL, (behind, before, *outside))
    assert classes_at(film, 0) == [thing_class("blue", "square")] + [0] * 11


def test_a_thing_stands_where_the_shaking_camera_shows_it() -> None:
    shaken = RenderedFilm(replace(STILL, shake=4.0), (thing("square", RED, 39.0, 60.0),))
    seen = set()
    for time_ms in range(0, 5000, 100):
        ((_, _, (x, y)),) = shaken.things_at(time_ms)
        assert classes_at(shaken, time_ms)[4 + int(x >= 40)] == thing_class("red", "square")
        # The pixels of the thing are around that place: their mean is its centre.
        ys, xs = np.nonzero(shaken.frame(time_ms)[..., 1] < 120)
        assert (xs.mean() + 0.5, ys.mean() + 0.5) == pytest.approx((x, y), abs=0.6)
        seen.add(x >= 40)
    assert seen == {False, True}


def test_the_part_of_a_cycle_is_told_and_rest_is_nothing() -> None:
    jump = Movement("jump", ((1000, 2000), (3000, 3800)))
    film = RenderedFilm(STILL, (), draw_body(np.random.default_rng(0), "train"), (jump,))
    wanted = {900: 0, 1000: 5, 1249: 5, 1250: 6, 1999: 8, 2000: 0, 3000: 5, 3799: 8, 3800: 0}
    assert {time: sights_of(film, time, SIZE).movement for time in wanted} == wanted


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_colour_of_every_shade_is_known(split: Split) -> None:
    rng = np.random.default_rng(1)
    assert all(colour_of(draw_shade(rng, split, colour)) == colour for colour in COLOURS for _ in range(200))


def test_the_sights_of_a_scene_are_those_of_the_newer_frames() -> None:
    scene = Mixture(estimated_cast(), "train").scene_of("repetitions", 3)
    assert isinstance(scene.film, RenderedFilm)
    sights = scene_sights(scene)
    assert list(sights) == list(range(scene.micro_turns))
    (asked,) = {each.action for each in scene.film.movements[-1:]}
    for repetition in (each for each in scene.moments if each.kind == "repetition"):
        for turn in range(scene.micro_turns):
            time_ms = 200 * turn + 100
            if repetition.start_ms <= time_ms < repetition.end_ms:
                share = (time_ms - repetition.start_ms) / (repetition.end_ms - repetition.start_ms)
                assert sights[turn].movement == movement_class(asked, share)
    assert scene_sights(replace(scene, film=None)) == {}


def test_sights_are_read_as_they_were_written(tmp_path: Path) -> None:
    unknown = replace(stored(3), sights={})
    shard = SceneShard(write_shard(tmp_path, "a", [stored(0), stored(1), unknown, stored(5)]))
    for place, scene in enumerate((stored(0), stored(1), unknown, stored(5))):
        read = shard.scene(place).sights
        assert list(read) == list(scene.sights)
        for turn, sights in scene.sights.items():
            assert np.array_equal(read[turn].things, sights.things)
            assert read[turn].movement == sights.movement
    assert len(shard.scene(3).sights) == 12
    few = {turn: sights for turn, sights in stored(1).sights.items() if turn < 3}
    with pytest.raises(ValueError, match="all 12 films or of none, got 3"):
        write_shard(tmp_path, "b", [replace(stored(1), sights=few)])


def test_a_shard_of_the_first_format_is_read_and_shows_nothing_that_is_known(tmp_path: Path) -> None:
    folder = write_shard(tmp_path, "a", [replace(stored(number), sights={}) for number in (0, 1)])
    index = json.loads((folder / "index.json").read_text())
    scenes = [{key: scene[key] for key in scene if not key.startswith("seen")} for scene in index["scenes"]]
    (folder / "index.json").write_text(json.dumps({**index, "format": 1, "scenes": scenes}))
    shard = SceneShard(folder)
    read, wanted = shard.scene(1), stored(1)
    assert read.sights == {}
    assert all(np.array_equal(read.films[turn], pixels) for turn, pixels in wanted.films.items())
    assert read.mouth is not None and wanted.mouth is not None
    assert np.array_equal(read.mouth.measures, wanted.mouth.measures)
    batch = Collator([shard], TASKS, 300, EYES)([(SceneRef(0, 0), SceneRef(0, 1))])
    assert batch.seen == 0 and set(batch.sights.flatten().tolist()) == {UNKNOWN}


@pytest.mark.parametrize("row_tokens", [300, 60])
def test_a_batch_asks_for_what_is_seen_at_patches_and_at_now(tmp_path: Path, row_tokens: int) -> None:
    shard = SceneShard(write_shard(tmp_path, "a", [stored(0), stored(1), stored(3)]))
    batch = Collator([shard], TASKS, row_tokens, EYES)([(SceneRef(0, 1),), (SceneRef(0, 0), SceneRef(0, 2))])
    is_patch, is_now = (batch.kinds == kind for kind in (PositionKind.PATCH, PositionKind.NOW))
    sights = [sights_in(turn) for row in (0, 1) for turn in range(int(is_patch[row].sum()) // PATCHES)]
    assert len(sights) == batch.seen > 0
    assert batch.sights[is_patch].tolist() == [int(each) for seen in sights for each in seen.things]
    known = batch.sights[is_now & (batch.tasks == TASKS.index("look"))]
    assert known.tolist() == [seen.movement for seen in sights]
    others = ~is_patch & ~(is_now & (batch.tasks == TASKS.index("look")))
    assert set(batch.sights[others].tolist()) == {UNKNOWN}


def test_knowing_what_is_seen_is_cheap_and_mistaking_it_is_dear() -> None:
    head = SightHead(THINGS).requires_grad_(False)
    head.things.weight.copy_(torch.eye(THINGS))
    head.movements.weight.copy_(torch.eye(MOVEMENTS, THINGS))
    for bias in (head.things.bias, head.movements.bias):
        bias.zero_()
    kinds = torch.tensor([[PositionKind.AUDIO, PositionKind.PATCH, PositionKind.PATCH, PositionKind.NOW]])
    wanted = torch.tensor([[UNKNOWN, 7, 0, 5]])

    def loss(first: int, second: int, movement: int, sights: torch.Tensor = wanted) -> float:
        hidden = 20 * torch.eye(THINGS)[torch.tensor([[3, first, second, movement]])]
        return float(head.loss(hidden, kinds, sights))

    assert loss(7, 0, 5) < 1e-3
    assert loss(8, 0, 5) == pytest.approx(20, abs=1e-3)
    assert loss(7, 0, 6) == pytest.approx(20, abs=1e-3)
    # A thing seen where there is nothing counts less: most patches are empty.
    assert loss(7, 1, 5) == pytest.approx(2, abs=1e-3)
    assert loss(7, 0, 5, torch.tensor([[UNKNOWN, 7, 0, 0]])) == pytest.approx(6, abs=1e-3)
    assert loss(1, 1, 1, torch.full((1, 4), UNKNOWN)) == 0.0


def test_nothing_known_costs_nothing_and_still_has_a_gradient() -> None:
    head = SightHead(8)
    hidden = torch.randn(2, 5, 8, requires_grad=True)
    loss = head.loss(hidden, torch.zeros(2, 5, dtype=torch.uint8), torch.full((2, 5), UNKNOWN))
    loss.backward()
    assert hidden.grad is not None and not hidden.grad.any() and not math.isnan(float(loss.detach()))
    assert isinstance(sights_in(0), Sights)
