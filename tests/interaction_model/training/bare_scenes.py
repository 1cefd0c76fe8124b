"""Scenes in which nothing happens but what a test puts there."""

from __future__ import annotations

from collections.abc import Mapping

from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.training.scene import Due, Moment, Noise, Scene, Talk


def scene_of(
    *talks: Talk,
    micro_turns: int = 50,
    noises: tuple[Noise, ...] = (),
    arrivals: Mapping[int, Inputs] | None = None,
    cancels: tuple[int, ...] = (),
    due: tuple[Due, ...] = (),
    moments: tuple[Moment, ...] = (),
) -> Scene:
    """Ten seconds of the test split, if nothing else is said, whose targets are empty."""
    return Scene(
        task="test",
        split="test",
        seed=3,
        micro_turns=micro_turns,
        talks=talks,
        noises=noises,
        arrivals=arrivals or {},
        targets=((),) * micro_turns,
        speech=(),
        tasks=(),
        cancels=cancels,
        due=due,
        moments=moments,
    )
