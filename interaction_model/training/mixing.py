"""The mixture of tasks that scenes are drawn from, by weight and by seed.

Scene number n of a split is always the same scene, whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from microturn.interaction_model.training.cast import Cast
from microturn.interaction_model.training.clock_tasks import every, how_long, once
from microturn.interaction_model.training.conversations import conversation, memory
from microturn.interaction_model.training.cue_tasks import cue
from microturn.interaction_model.training.delegation_tasks import cancelled_errand, corrected_errand, errand
from microturn.interaction_model.training.digit_tasks import digits
from microturn.interaction_model.training.hearing_task import TASK as HEARING
from microturn.interaction_model.training.reading_task import TASK as READING
from microturn.interaction_model.training.scene import Scene, Split
from microturn.interaction_model.training.stage import Stage
from microturn.interaction_model.training.turn_taking import (
    bystanders,
    interruption,
    quiet,
    story,
    thinking_pause,
    user_backchannel,
)
from microturn.interaction_model.training.video_tasks import (
    action_span,
    appearance,
    change_of_colour,
    change_of_side,
    description,
    idle_film,
    looking_on,
    repetitions,
)

Task = Callable[[Stage], None]
"""Writes one scene onto a stage."""

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "conversation": conversation,
        "memory": memory,
        "digits": digits,
        "thinking_pause": thinking_pause,
        "user_backchannel": user_backchannel,
        "interruption": interruption,
        "story": story,
        "bystanders": bystanders,
        "quiet": quiet,
        "clock_once": once,
        "clock_every": every,
        "clock_how_long": how_long,
        "cue": cue,
        "errand": errand,
        "cancelled_errand": cancelled_errand,
        "corrected_errand": corrected_errand,
        "repetitions": repetitions,
        "action_span": action_span,
        "appearance": appearance,
        "change_of_colour": change_of_colour,
        "change_of_side": change_of_side,
        "description": description,
        "looking_on": looking_on,
    }
)
"""Every task by name that needs no recordings."""

DEFAULT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "conversation": 6,
        "memory": 2,
        "digits": 2,
        "thinking_pause": 3,
        "user_backchannel": 1.5,
        "interruption": 2,
        "story": 1.5,
        "bystanders": 1.5,
        "quiet": 0.5,
        "clock_once": 1.5,
        "clock_every": 1.5,
        "clock_how_long": 1,
        "cue": 2,
        "errand": 2.5,
        "cancelled_errand": 0.5,
        "corrected_errand": 0.5,
        "repetitions": 1.5,
        "action_span": 1,
        "appearance": 0.7,
        "change_of_colour": 0.7,
        "change_of_side": 0.7,
        "description": 1,
        "looking_on": 0.5,
    }
)
"""Our choice: half plain talk, half everything else."""

STANDING = frozenset(
    (
        HEARING,
        READING,
        "digits",
        "cue",
        "repetitions",
        "action_span",
        "appearance",
        "change_of_colour",
        "change_of_side",
        "description",
    )
)
"""Tasks whose request holds until the end of the scene: what follows in the same conversation would contradict it."""

_NOISY_SHARE = 0.3
_IDLE_FILM_SHARE = 0.05
_WHOLE_SCENE_MS = 120_000


@dataclass(frozen=True, slots=True)
class Mixture:
    """Draws scenes of a split."""

    cast: Cast
    split: Split
    weights: Mapping[str, float] = field(default_factory=lambda: DEFAULT_WEIGHTS)
    """How often each task comes up, against the others; tasks that are not named never do."""
    tasks: Mapping[str, Task] = field(default_factory=lambda: TASKS)
    """Who writes the scenes of each task."""
    written_share: float | None = None
    """Of all requests on the train split those that are typed; if None each task has its own, see `Stage.ask`."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.weights) - set(self.tasks)):
            raise ValueError(f"weights name unknown tasks {unknown}; known are {sorted(self.tasks)}")
        if any(weight < 0 for weight in self.weights.values()) or not sum(self.weights.values()) > 0:
            raise ValueError(f"weights must be 0 or more and not all 0, got {dict(self.weights)!r}")

    def scene(self, seed: int) -> Scene:
        """Draw scene number `seed`, from 0, of any task."""
        names = sorted(self.weights)
        shares = np.array([self.weights[name] for name in names], dtype=float)
        rng = np.random.default_rng([seed, int(self.split == "test")])
        return self.scene_of(names[int(rng.choice(len(names), p=shares / shares.sum()))], seed)

    def scene_of(self, task: str, seed: int) -> Scene:
        """Draw scene number `seed` of one task."""
        stage = Stage(task, self.split, seed, self.cast, written_share=self.written_share)
        if stage.chance(_NOISY_SHARE):
            stage.noise("noise", _WHOLE_SCENE_MS, -stage.between(15, 35))
        self.tasks[task](stage)
        if stage.film is None and stage.chance(_IDLE_FILM_SHARE):
            stage.film = idle_film(stage)
        return stage.finish()

    def scenes(self, first: int = 0) -> Iterator[Scene]:
        """Draw scenes without end, from a number on."""
        seed = first
        while True:
            yield self.scene(seed)
            seed += 1
