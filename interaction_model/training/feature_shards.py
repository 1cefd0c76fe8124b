"""Scenes made into what a trainer reads: rendered, packed and written, shard by shard.

Every shard follows from the plan and the numbers of its scenes; a making that was killed goes on where it was. Knows
how a scene is made; nothing of networks or of how a shard lies on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from microturn.interaction_model.native.grammar import pack
from microturn.interaction_model.training.scene import Scene
from microturn.interaction_model.training.scene_shards import MouthTargets, StoredScene, write_shard
from microturn.interaction_model.training.scene_sound import SceneSound, dmel_of
from microturn.interaction_model.training.shard_folder import Plan, claim

SCENES_PER_SHARD = 200
"""About 40 minutes of scenes, and a minute of work that a kill can lose."""


def stored_scene(scene: Scene, sound: SceneSound, mouth: MouthTargets | None = None) -> StoredScene:
    """Render what is heard and seen in a scene and pack it; by default the mouth learns nothing from it."""
    packed = pack(scene.inputs(), scene.targets, dmel_of(sound.render(scene)))
    drawn = ((turn, scene.frames(turn)) for turn in range(scene.micro_turns))
    films = {turn: pair for turn, pair in drawn if pair is not None}
    return StoredScene(scene.task, scene.split, scene.seed, packed, films, mouth)


def write_features(
    out: Path,
    plan: Plan,
    scenes: int,
    make: Callable[[int], StoredScene],
    *,
    per_shard: int = SCENES_PER_SHARD,
) -> Iterator[int]:
    """Make the shards that are not there yet; yield how many scenes each of them has.

    Scenes have numbers from 0; the last shard is filled up, so there may be more than `scenes`. `make` gives the scene
    of a number, the same for the same number. `plan` names everything that the scenes are made from.

    Raises:
        BankMismatchError: `out` was made from another plan.
    """
    claim(out, {**plan, "scenes_per_shard": per_shard})
    for first in range(0, scenes, per_shard):
        name = f"scenes-{first:07d}"
        if not (out / name).exists():
            write_shard(out, name, (make(number) for number in range(first, first + per_shard)))
            yield per_shard
