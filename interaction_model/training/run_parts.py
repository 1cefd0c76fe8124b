"""Puts a run together: network, learner, data and what is held out, all from a configuration and a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from microturn.interaction_model.native.config import NetworkConfig
from microturn.interaction_model.native.mouth import Mouth
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.own_words import OwnWords
from microturn.interaction_model.native.presets import preset
from microturn.interaction_model.native.voice_file import expect_fits
from microturn.interaction_model.training._errors import NoScenesError
from microturn.interaction_model.training.batches import Collator
from microturn.interaction_model.training.cast import estimated_word_ms
from microturn.interaction_model.training.epoch import (
    EpochPlan,
    data_fingerprint,
    held_out_scenes,
    training_scenes,
)
from microturn.interaction_model.training.evaluator import Evaluator
from microturn.interaction_model.training.learner import Learner
from microturn.interaction_model.training.objective import Trainee
from microturn.interaction_model.training.scene_shards import open_shards
from microturn.interaction_model.training.train_config import TrainConfig
from microturn.interaction_model.training.word_rows import begin_alike

TRAINING_DATA = "train"


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
    mouth: Mouth | None
    """What the network will speak with; its flow head is trained along where scenes hold frames for it."""


def put_together(
    config: TrainConfig,
    data: Path,
    network: Network | NetworkConfig | None = None,
    mouth: Mouth | None = None,
) -> RunParts:
    """Read what data there are, and draw the weights unless they are given.

    Args:
        config: the run.
        data: a folder whose folder `train` holds scenes in shards.
        network: what is trained on, or the sizes of one to draw; those of the preset if None.
        mouth: what it will speak with, trained already.

    Raises:
        NoScenesError: there is nothing to train on.
        BadConfigError: there is no such preset, or the mouth was made for a network of another width.
        BadShardError: a file cannot be read.
    """
    sizes = network.config if isinstance(network, Network) else network or preset(config.preset)
    if mouth is not None:
        expect_fits(mouth, sizes)
    shards = open_shards(data / TRAINING_DATA)
    scenes, held = training_scenes(shards), held_out_scenes(shards)
    if not scenes:
        raise NoScenesError(data, expected="scenes in the folder `train`", got="none")
    tasks = sorted({entry.task for entry in (*scenes.values(), *held.values())})
    tokens = config.rows.tokens
    collate = Collator(shards, tasks, tokens, sizes.eyes)
    has_frames = any(entry.spoken for entry in scenes.values())
    own_word_ms = estimated_word_ms if mouth is None else OwnWords(mouth.durations)
    torch.manual_seed(config.seed)
    given = network if isinstance(network, Network) else _drawn(sizes)
    trainee = Trainee(given, mouth.flow if mouth is not None and has_frames else None)
    return RunParts(
        config=config,
        learner=Learner(trainee, config),
        plan=EpochPlan(scenes, tokens, config.task_weights, config.seed),
        collate=collate,
        evaluator=Evaluator(shards, held, tasks, collate, own_word_ms, config.device),
        data=data_fingerprint(scenes),
        mouth=mouth,
    )


def _drawn(sizes: NetworkConfig) -> Network:
    network = Network(sizes)
    begin_alike(network)
    return network
