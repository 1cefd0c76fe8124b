"""The eyes: Inkling's plan, patches and encoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from microturn.interaction_model.native import BadConfigError, BadFramesError
from microturn.interaction_model.native.config import EyesConfig
from microturn.interaction_model.native.eye_plan import Fold, plan
from microturn.interaction_model.native.eyes import COLOUR_MEANS, COLOUR_STDS, Eyes, cut_patches, patch_grid
from tests.interaction_model.native.inkling import configuration, draw, modeling

pytestmark = pytest.mark.unit


def frames(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_the_plan_for_patches_of_40_pixels_is_the_published_one() -> None:
    assert plan(EyesConfig(width=6144)) == (
        Fold(frames=1, side=5, inputs=75, outputs=128),
        Fold(frames=1, side=2, inputs=512, outputs=320),
        Fold(frames=1, side=4, inputs=5120, outputs=4800),
        Fold(frames=2, side=1, inputs=9600, outputs=6144),
    )


@pytest.mark.parametrize("patch", [4, 6, 8, 9, 12, 14, 15, 16, 20, 28, 30, 32, 40, 42, 49, 60, 64])
def test_plans_are_inklings_for_any_patch_and_depth(patch: int) -> None:
    for temporal, layers in itertools.product((2, 3, 4, 6), range(1, 10)):
        scales = modeling.plan_out_scales(temporal, patch, layers, 3).tolist()
        folds = plan(EyesConfig(width=64, patch=patch, frames=temporal, layers=layers))
        sides = list(itertools.accumulate((fold.side for fold in folds), lambda a, b: a * b, initial=1))
        spans = list(itertools.accumulate((fold.frames for fold in folds), lambda a, b: a * b, initial=1))
        assert list(zip(spans, sides, strict=True)) == [(span, side) for span, side, _, _ in scales]
        # Between two steps in time transformers 5.23 asks for 64 times as many channels as there are numbers.
        spatial = [
            (fold.outputs, scale[3])
            for fold, scale in zip(folds[:-1], scales[1:-1], strict=True)
            if scale[0] == 1
        ]
        assert all(ours == theirs for ours, theirs in spatial)


@pytest.mark.parametrize("patch, layers", [(20, 3), (16, 3), (12, 4)])
def test_embeddings_are_inklings(patch: int, layers: int) -> None:
    config = EyesConfig(width=24, patch=patch, layers=layers)
    theirs = modeling.InklingVisionModel(
        configuration.InklingVisionConfig(
            text_hidden_size=24, patch_size=patch, temporal_patch_size=2, num_hidden_layers=layers
        )
    )
    with torch.device("meta"):
        ours = Eyes(config)
    draw(theirs, 2)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    patches = cut_patches(frames(2, patch + 3, 2 * patch), config)
    with torch.no_grad():
        wanted = theirs(patches).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(patches), wanted, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(ours.embed(patches), wanted, atol=2e-5, rtol=2e-5)


def test_narrow_layers_are_made_of_the_same_parts() -> None:
    config = EyesConfig(width=24, channels=(7, 9, 11))
    eyes = Eyes(config)
    draw(eyes, 2)
    x = patches = cut_patches(frames(2, 80, 40), config)
    for number, (fold, layer) in enumerate(zip(plan(config), eyes.encoder_layers, strict=True)):
        theirs = modeling.InklingVisionEncoderLayer(
            fold.inputs, fold.outputs, fold.frames, fold.side, add_norm=number < 3
        )
        theirs.load_state_dict(layer.state_dict())
        x = theirs(x)
    with torch.no_grad():
        torch.testing.assert_close(eyes(patches), eyes.final_norm(x.flatten(1)), atol=1e-5, rtol=1e-5)


def test_pixels_stand_where_they_were_seen() -> None:
    config = EyesConfig(width=8, patch=4, layers=2)
    picture = frames(2, 7, 10)
    patches = cut_patches(picture, config)
    assert patch_grid(7, 10, 4) == (2, 3)
    assert patches.shape == (6, 2, 4, 4, 3)
    for row, column, frame, colour in itertools.product(range(8), range(12), range(2), range(3)):
        inside = row < 7 and column < 10
        value = float(picture[frame, row, column, colour]) if inside else -1.0
        wanted = (value / 255 - COLOUR_MEANS[colour]) / COLOUR_STDS[colour]
        got = patches[row // 4 * 3 + column // 4, frame, row % 4, column % 4, colour]
        assert abs(float(got) - wanted) < 1e-5


def test_a_still_picture_is_seen_as_two_equal_frames() -> None:
    config = EyesConfig(width=8, patch=4, layers=2)
    still = frames(1, 8, 8)
    assert torch.equal(cut_patches(still, config), cut_patches(np.repeat(still, 2, 0), config))


def test_frames_are_not_changed_and_may_be_read_only() -> None:
    picture = frames(2, 8, 8)
    copy = picture.copy()
    picture.flags.writeable = False
    cut_patches(picture, EyesConfig(width=8, patch=4, layers=2))
    assert np.array_equal(picture, copy)


@pytest.mark.parametrize("count", [2, 3, 5, 12, 48])
def test_a_patch_has_the_same_bits_among_others(count: int) -> None:
    config = EyesConfig(width=24, channels=(7, 9, 11))
    eyes = Eyes(config)
    draw(eyes, 2)
    patches = cut_patches(frames(2, 40, 40 * count), config)
    alone = torch.cat([eyes.embed(patches[n : n + 1]) for n in range(count)])
    assert torch.equal(eyes.embed(patches), alone)


@pytest.mark.parametrize(
    "shape, dtype",
    [
        ((3, 8, 8, 3), np.uint8),
        ((0, 8, 8, 3), np.uint8),
        ((2, 8, 8, 4), np.uint8),
        ((8, 8, 3), np.uint8),
        ((2, 0, 8, 3), np.uint8),
        ((2, 8, 8, 3), np.float32),
    ],
)
def test_frames_that_cannot_be_seen_are_refused(shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    with pytest.raises(BadFramesError, match=r"\(2 or 1, H, W, 3\) of uint8"):
        cut_patches(np.zeros(shape, dtype), EyesConfig(width=8))


def test_widths_that_do_not_fit_the_layers_are_named() -> None:
    with pytest.raises(BadConfigError, match="empty or 3 widths"):
        EyesConfig(width=8, channels=(1, 2))
