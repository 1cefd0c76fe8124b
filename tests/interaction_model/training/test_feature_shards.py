"""Scenes in files: what is read is what was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microturn.interaction_model.training._errors import BankMismatchError
from microturn.interaction_model.training.cast import Cast, estimated_word_ms
from microturn.interaction_model.training.feature_shards import missing_shards, stored_scene, write_features
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene_shards import StoredScene, open_shards
from microturn.interaction_model.training.scene_sound import SceneSound
from microturn.interaction_model.training.scene_voices import SceneVoices

pytestmark = pytest.mark.unit


def made_by(voices: SceneVoices, seeds: list[int]) -> dict[int, StoredScene]:
    mixture, sound = Mixture(Cast(voices, estimated_word_ms), "train"), SceneSound(voices)
    return {seed: stored_scene(mixture.scene(seed), sound) for seed in seeds}


def test_scenes_of_the_mixture_are_written_and_read(voices: SceneVoices, tmp_path: Path) -> None:
    made = made_by(voices, [0, 1, 2, 3])

    def scenes(shard: int) -> list[StoredScene]:
        return [made[2 * shard], made[2 * shard + 1]]

    assert len(list(write_features(tmp_path, {"seed": 0}, 2, scenes))) == 2
    read = [shard.scene(number) for shard in open_shards(tmp_path) for number in range(len(shard))]
    assert [scene.seed for scene in read] == [0, 1, 2, 3]
    for scene in read:
        wanted = made[scene.seed]
        assert (scene.task, scene.split) == (wanted.task, "train") and list(scene.films) == list(wanted.films)
        assert all(np.array_equal(pair, wanted.films[turn]) for turn, pair in scene.films.items())
        for field in ("kinds", "ids", "targets", "micro_turns", "last", "levels"):
            assert np.array_equal(getattr(scene.packed, field), getattr(wanted.packed, field)), field


def test_a_killed_making_goes_on_where_it_was(voices: SceneVoices, tmp_path: Path) -> None:
    made = made_by(voices, [0, 1])
    asked: list[int] = []

    def scenes(shard: int) -> list[StoredScene]:
        asked.append(shard)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [made[shard]]

    with pytest.raises(KeyboardInterrupt):
        list(write_features(tmp_path, {}, 2, scenes))
    assert missing_shards(tmp_path, 3) == [1, 2]
    assert len(list(write_features(tmp_path, {}, 2, scenes))) == 2
    assert asked == [0, 1, 1] and len(open_shards(tmp_path)) == 2
    with pytest.raises(BankMismatchError):
        list(write_features(tmp_path, {"seed": 1}, 2, scenes))
