"""Scenes in files: what is read is what was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microturn.interaction_model.training._errors import BankMismatchError, SpeechDataMissingError
from microturn.interaction_model.training.cast import Cast, estimated_word_ms
from microturn.interaction_model.training.feature_shards import FeatureShards, write_features
from microturn.interaction_model.training.mixing import Mixture
from microturn.interaction_model.training.scene_bank import stored_scene, write_scenes
from microturn.interaction_model.training.scene_sound import SceneSound
from microturn.interaction_model.training.scene_store import StoredScene, open_stores
from microturn.interaction_model.training.scene_voices import SceneVoices
from microturn.interaction_model.training.shard_folder import ShardFolder
from microturn.interaction_model.training.speakers import Engine, SpeakerPool, Split
from tests.interaction_model.training.conftest import ToneSynthesizer

pytestmark = pytest.mark.unit


@pytest.fixture
def voices(tones: ToneSynthesizer) -> SceneVoices:
    return SceneVoices(tones, SpeakerPool([Engine.HIBARI], Split.TRAIN))


def made_by(voices: SceneVoices, seeds: list[int]) -> dict[int, StoredScene]:
    mixture, sound = Mixture(Cast(voices, estimated_word_ms), "train"), SceneSound(voices)
    return {seed: stored_scene(mixture.scene(seed), sound) for seed in seeds}


def test_scenes_of_the_mixture_are_written_and_read(voices: SceneVoices, tmp_path: Path) -> None:
    made = made_by(voices, [0, 1, 2, 3])
    assert list(write_scenes(tmp_path, {"seed": 0}, 3, made.__getitem__, per_file=2)) == [2, 2]
    (store,) = open_stores(tmp_path)
    read = [store.scene(index) for index in range(len(store.entries))]
    assert [scene.seed for scene in read] == [0, 1, 2, 3]
    for scene in read:
        wanted = made[scene.seed]
        assert scene.task == wanted.task and list(scene.films) == list(wanted.films)
        assert all(np.array_equal(pair, wanted.films[turn]) for turn, pair in scene.films.items())
        for field in ("kinds", "ids", "targets", "micro_turns", "last", "levels"):
            assert np.array_equal(getattr(scene.packed, field), getattr(wanted.packed, field)), field


def test_a_killed_making_goes_on_where_it_was(voices: SceneVoices, tmp_path: Path) -> None:
    made = made_by(voices, [0, 1])
    asked: list[int] = []

    def make(number: int) -> StoredScene:
        asked.append(number)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return made[number]

    with pytest.raises(KeyboardInterrupt):
        list(write_scenes(tmp_path, {}, 2, make, per_file=1))
    assert list(write_scenes(tmp_path, {}, 2, make, per_file=1)) == [1]
    assert asked == [0, 1, 1] and len(FeatureShards(tmp_path)) == 2
    with pytest.raises(BankMismatchError):
        list(write_scenes(tmp_path, {"seed": 1}, 2, make, per_file=1))


def test_an_index_that_is_not_there_is_refused(voices: SceneVoices, tmp_path: Path) -> None:
    made = made_by(voices, [0])
    list(write_scenes(tmp_path, {}, 1, made.__getitem__, per_file=1))
    shards = FeatureShards(tmp_path)
    assert shards[0].seed == 0
    for index in (-1, 1):
        with pytest.raises(IndexError, match="from 0 to 0"):
            shards[index]


def test_nothing_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        write_features(ShardFolder(tmp_path, {}), "scenes-0000000", [])
    with pytest.raises(SpeechDataMissingError, match="scenes"):
        FeatureShards(tmp_path)
