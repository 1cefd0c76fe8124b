"""Made-up scenes on disk, and a network small enough to be trained in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from microturn.interaction_model.native.config import (
    BackboneConfig,
    EarsConfig,
    ExpertsConfig,
    EyesConfig,
    HeadsConfig,
    NetworkConfig,
)
from microturn.interaction_model.native.flow_head import SEEN_FRAMES, FlowHeadConfig
from microturn.interaction_model.native.grammar import AUDIO_TOKENS, MEL_BINS, Inputs, Packed, pack
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.speech_track import MEASURES, NEIGHBOURS
from microturn.interaction_model.native.vocabulary import SIZE, heard_token, said_token
from microturn.interaction_model.native.vocoder_frames import FRAME_SIZE
from microturn.interaction_model.training.run_parts import RunParts, put_together
from microturn.interaction_model.training.scene import Pixels
from microturn.interaction_model.training.scene_shards import MouthTargets, StoredScene, write_shard
from microturn.interaction_model.training.sights import MOVEMENTS, THINGS, Sights
from microturn.interaction_model.training.train_config import (
    OptimizerConfig,
    RowsConfig,
    SavingConfig,
    TrainConfig,
)

TASKS = ("echo", "look")
HEIGHT, WIDTH = 6, 8
PATCHES = 4
EYES = EyesConfig(width=32, patch=4, layers=2, channels=(10,))


def small_network(*, experts: bool = False) -> NetworkConfig:
    """Two layers with the real vocabulary."""
    heads = HeadsConfig(heads=2, groups=1, head_dim=16)
    backbone = BackboneConfig(
        vocabulary=SIZE,
        width=32,
        attention=("sliding", "global"),
        mlps=("dense", "sparse" if experts else "dense"),
        sliding_heads=heads,
        global_heads=heads,
        window=16,
        reach=32,
        profile_rank=4,
        inner=48,
        experts=ExpertsConfig(count=4, chosen=1, shared=1, inner=16) if experts else None,
    )
    return NetworkConfig(backbone=backbone, ears=EarsConfig(width=32), eyes=EYES)


def small_mouth() -> Mouth:
    """A mouth for the small network."""
    torch.manual_seed(0)
    return Mouth(FlowHeadConfig(condition=32, width=16, inner=16, blocks=1, symbol=4, time=8))


def small_config(**changes: object) -> TrainConfig:
    """One thread, short rows, two micro-batches a step; never saves or looks by time."""
    told: dict[str, object] = {
        "threads": 1,
        "rows": RowsConfig(rows=1, micro_turns=30, accumulate=2),
        "optimizer": OptimizerConfig(warm_up_steps=5),
        "saving": SavingConfig(checkpoint_minutes=1e9, evaluate_minutes=1e9, log_steps=5, free_run_scenes=1),
        **changes,
    }
    return TrainConfig(**told)  # type: ignore[arg-type]


def made_up(number: int, turns: int = 12) -> Packed:
    """A scene in which a word can be told from the sound: it is heard in a micro-turn and said in the next."""
    rng = np.random.default_rng(number)
    words = ("red", "green", "blue", "yellow")
    levels = rng.integers(0, 3, (AUDIO_TOKENS * turns, MEL_BINS)).astype(np.uint8)
    targets: list[tuple[int, ...]] = [()] * turns
    for turn in range(1 + number % 3, turns - 1, 3):
        word = int(rng.integers(len(words)))
        levels[AUDIO_TOKENS * turn : AUDIO_TOKENS * (turn + 1), 20 * word : 20 * (word + 1)] = 15
        targets[turn] = (heard_token(words[word]),)
        targets[turn + 1] = (said_token(words[word]),)
    inputs = [Inputs(patches=PATCHES * has_film(number))] * turns
    return pack(inputs, targets, levels)


def has_film(number: int) -> bool:
    """Whether a made-up scene is of the task with films."""
    return number % 2 == 1


def film_of(number: int, turn: int) -> Pixels:
    """A pair of frames."""
    rng = np.random.default_rng([number, turn])
    return rng.integers(0, 256, (2, HEIGHT, WIDTH, 3)).astype(np.uint8)


def sights_in(turn: int) -> Sights:
    """What a made-up pair of frames is said to show: another thing in each patch."""
    things = (PATCHES * turn + np.arange(PATCHES)) % THINGS
    return Sights(things.astype(np.uint8), turn % MOVEMENTS)


def mouth_of(number: int, turns: int = 12) -> MouthTargets:
    """Frames for every micro-turn with a word that is said."""
    packed = made_up(number, turns)
    first_said = said_token("zero")
    speaking = np.unique(packed.micro_turns[packed.targets >= first_said]).astype(np.int32)
    rng = np.random.default_rng([number, 7])
    return MouthTargets(
        speaking,
        rng.normal(size=(len(speaking), SEEN_FRAMES, FRAME_SIZE)).astype(np.float16),
        rng.integers(1, 9, (len(speaking), SEEN_FRAMES, NEIGHBOURS)).astype(np.uint8),
        rng.random((len(speaking), SEEN_FRAMES, MEASURES)).astype(np.float16),
    )


def stored(number: int, turns: int = 12) -> StoredScene:
    """A made-up scene with its film and its mouth's targets."""
    films = {turn: film_of(number, turn) for turn in range(turns)} if has_film(number) else {}
    return StoredScene(
        task=TASKS[has_film(number)],
        split="train",
        seed=number,
        packed=made_up(number, turns),
        films=films,
        mouth=mouth_of(number, turns),
        sights={turn: sights_in(turn) for turn in films},
    )


def write_data(root: Path, scenes: int = 40) -> Path:
    """Write training data in two shards and return their folder."""
    write_shard(root / "train", "a", map(stored, range(scenes // 2)))
    write_shard(root / "train", "b", map(stored, range(scenes // 2, scenes)))
    return root


def small_parts(data: Path, config: TrainConfig | None = None, *, experts: bool = False) -> RunParts:
    """All parts of a small run."""
    return put_together(config or small_config(), data, small_network(experts=experts), small_mouth())
