"""A bank of scenes: each is rendered, packed and written with its film and what the mouth should draw.

Every file follows from the plan and the numbers of its scenes; a making that was killed goes on where it was. Knows
how a scene is made; nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from microturn.interaction_model.native.grammar import pack
from microturn.interaction_model.training.feature_shards import Example, write_features
from microturn.interaction_model.training.scene import Pixels, Scene
from microturn.interaction_model.training.scene_sound import SceneSound, dmel_of
from microturn.interaction_model.training.scene_store import (
    FILMS,
    MOUTH,
    MouthTargets,
    StoredScene,
    write_films,
    write_mouth,
)
from microturn.interaction_model.training.shard_folder import Plan, ShardFolder

SCENES_PER_FILE = 200
"""About 40 minutes of scenes, and a minute of work that a kill can lose."""


def stored_scene(scene: Scene, sound: SceneSound, mouth: MouthTargets | None = None) -> StoredScene:
    """Render what is heard and seen in a scene and pack it; by default the mouth learns nothing from it."""
    packed = pack(scene.inputs(), scene.targets, dmel_of(sound.render(scene)))
    return StoredScene(scene.task, scene.seed, packed, _films(scene), mouth or MouthTargets.none())


def write_scenes(
    out: Path,
    plan: Plan,
    scenes: int,
    make: Callable[[int], StoredScene],
    *,
    per_file: int = SCENES_PER_FILE,
) -> Iterator[int]:
    """Make the files that are not there yet; yield how many scenes each of them has.

    Scenes have numbers from 0; the last file is filled up, so there may be more than `scenes`. `make` gives the scene
    of a number, the same for the same number. `plan` names everything that the scenes are made from.

    Raises:
        BankMismatchError: `out` was made from another plan.
    """
    whole_plan = {**plan, "scenes_per_file": per_file}
    features = ShardFolder(out, whole_plan)
    films, mouth = (ShardFolder(out / name, whole_plan) for name in (FILMS, MOUTH))
    firsts = {f"scenes-{first:07d}": first for first in range(0, scenes, per_file)}
    for name in features.missing(list(firsts)):
        made = [make(number) for number in range(firsts[name], firsts[name] + per_file)]
        write_films(films, name, [scene.films for scene in made])
        write_mouth(mouth, name, [scene.mouth for scene in made])
        # Last, as a file of features says that the others are there.
        write_features(features, name, [Example(scene.seed, scene.task, scene.packed) for scene in made])
        yield per_file


def _films(scene: Scene) -> dict[int, Pixels]:
    drawn = ((turn, scene.frames(turn)) for turn in range(scene.micro_turns))
    return {turn: pair for turn, pair in drawn if pair is not None}
