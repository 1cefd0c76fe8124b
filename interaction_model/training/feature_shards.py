"""Scenes made into what a trainer reads: rendered, packed and written, shard by shard.

Every shard follows from the plan and the numbers of its scenes; a making that was killed goes on where it was. Knows
how a scene is made; nothing of networks or of how a shard lies on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from microturn.interaction_model.native.grammar import pack
from microturn.interaction_model.training.job_pool import done_in_order
from microturn.interaction_model.training.scene import Scene, newer_frame_ms
from microturn.interaction_model.training.scene_shards import MouthTargets, StoredScene, write_shard
from microturn.interaction_model.training.scene_sound import SceneSound, dmel_of
from microturn.interaction_model.training.shard_folder import Plan, claim
from microturn.interaction_model.training.sights import Sights, sights_of


def stored_scene(scene: Scene, sound: SceneSound, mouth: MouthTargets | None = None) -> StoredScene:
    """Render what is heard and seen in a scene and pack it; by default the mouth learns nothing from it."""
    packed = pack(scene.inputs(), scene.targets, dmel_of(sound.render(scene)))
    drawn = ((turn, scene.frames(turn)) for turn in range(scene.micro_turns))
    films = {turn: pair for turn, pair in drawn if pair is not None}
    return StoredScene(scene.task, scene.split, scene.seed, packed, films, mouth, scene_sights(scene))


def scene_sights(scene: Scene) -> dict[int, Sights]:
    """What is seen in each micro-turn of a scene; nothing without a film."""
    if scene.film is None:
        return {}
    return {
        turn: sights_of(scene.film, newer_frame_ms(turn), scene.frame_size)
        for turn in range(scene.micro_turns)
    }


def write_features(
    out: Path, plan: Plan, shards: int, scenes: Callable[[int], Iterable[StoredScene]], *, jobs: int = 1
) -> Iterator[None]:
    """Make the shards that are not there yet, in `jobs` processes; yield once for each of all shards.

    Shards have numbers from 0, and `scenes` gives the scenes of a number, the same for the same number; for several
    jobs it must be picklable. `plan` names everything that the scenes are made from.

    Raises:
        BankMismatchError: `out` was made from another plan.
    """
    claim(out, plan)
    missing = missing_shards(out, shards)
    yield from (None for _ in range(shards - len(missing)))
    yield from done_in_order(partial(_write, out, scenes), missing, jobs)


def missing_shards(out: Path, shards: int) -> list[int]:
    """Return the numbers of those of the first `shards` shards that are not there."""
    return [number for number in range(shards) if not (out / _name(number)).exists()]


def _write(out: Path, scenes: Callable[[int], Iterable[StoredScene]], number: int) -> None:
    write_shard(out, _name(number), scenes(number))


def _name(number: int) -> str:
    return f"scenes-{number:06d}"
