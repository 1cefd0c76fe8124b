"""Puts a run together: network, learner, data and what is held out, all from a configuration and a folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from microturn.interaction_model.native.config import NetworkConfig
from microturn.interaction_model.native.flow_head import FlowHead, FlowHeadConfig
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.presets import preset
from microturn.interaction_model.training._errors import NoScenesError
from microturn.interaction_model.training.batches import Collator
from microturn.interaction_model.training.epoch import (
    EpochPlan,
    SceneRef,
    data_fingerprint,
    held_out_scenes,
    training_scenes,
)
from microturn.interaction_model.training.evaluator import Evaluator
from microturn.interaction_model.training.learner import Learner
from microturn.interaction_model.training.mouth_moments import frame_moments
from microturn.interaction_model.training.objective import Trainee
from microturn.interaction_model.training.scene_shards import SceneShard, open_shards
from microturn.interaction_model.training.train_config import TrainConfig

TRAINING_DATA = "train"
MOMENT_SCENES = 300
"""Scenes from which the mouth's norms are taken."""


@dataclass(frozen=True, slots=True)
class RunParts:
    """What a `Trainer` needs."""

    config: TrainConfig
    learner: Learner
    plan: EpochPlan
    collate: Collator
    evaluator: Evaluator
    data: str
    """Fingerprint of what decides the order of the data."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of all that is trained."""

    network: NetworkConfig
    mouth: FlowHeadConfig

    @classmethod
    def of_preset(cls, name: str) -> Sizes:
        """Those of a preset, with the usual mouth.

        Raises:
            BadConfigError: there is no such preset.
        """
        network = preset(name)
        return cls(network, FlowHeadConfig(condition=network.backbone.width))


def put_together(config: TrainConfig, data: Path, sizes: Sizes | None = None) -> RunParts:
    """Read what data there are, and draw the weights.

    Args:
        config: the run.
        data: a folder whose folder `train` holds scenes in shards.
        sizes: those of the preset if None.

    Raises:
        NoScenesError: there is nothing to train on, or nothing for the mouth.
        BadConfigError: there is no such preset.
        BadShardError: a file cannot be read.
    """
    sizes = sizes or Sizes.of_preset(config.preset)
    shards = open_shards(data / TRAINING_DATA)
    scenes, held = training_scenes(shards), held_out_scenes(shards)
    if not scenes:
        raise NoScenesError(data, expected="scenes in the folder `train`", got="none")
    tasks = sorted({entry.task for entry in (*scenes.values(), *held.values())})
    tokens = config.rows.tokens
    collate = Collator(shards, tasks, tokens, sizes.network.eyes)
    return RunParts(
        config=config,
        learner=Learner(_trainee(config, sizes, shards, scenes, data), config),
        plan=EpochPlan(scenes, tokens, config.task_weights, config.seed),
        collate=collate,
        evaluator=Evaluator(shards, held, tasks, collate, config.device),
        data=data_fingerprint(scenes),
    )


def _trainee(
    config: TrainConfig,
    sizes: Sizes,
    shards: Sequence[SceneShard],
    scenes: Iterable[SceneRef],
    data: Path,
) -> Trainee:
    torch.manual_seed(config.seed)
    network = Network(sizes.network)
    if not config.has_mouth:
        return Trainee(network, None)
    mouth = FlowHead(sizes.mouth)
    speaking = (ref for ref in scenes if shards[ref.shard].entries[ref.number].spoken)
    read = (shards[ref.shard].scene(ref.number).mouth for ref in islice(speaking, MOMENT_SCENES))
    moments = frame_moments(mouth for mouth in read if mouth is not None)
    if moments is None:
        raise NoScenesError(data, expected="frames for the mouth, or no mouth to train", got="no frames")
    for name, found in zip(("frame_mean", "frame_scale"), moments, strict=True):
        mouth.get_buffer(name).copy_(found)
    return Trainee(network, mouth)
