"""The scenes of an exam, drawn by seed and rendered a few at a time, so that hours of sound need no memory.

Every scene is of the test split: wordings, contents, looks and speakers that are never trained on. A rehearsal is made of
new scenes of the train split, so that settings can be chosen without a look at what is examined.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from microturn.interaction_model.native.grammar import pack
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.exam_figures import PEOPLE, READINGS
from microturn.interaction_model.training.mixing import TASKS
from microturn.interaction_model.training.real_speech import VARIABLE, speech_data
from microturn.interaction_model.training.scene import Scene, Split
from microturn.interaction_model.training.scene_maker import SceneMaker
from microturn.interaction_model.training.scene_plan import ScenePlan
from microturn.interaction_model.training.scene_shards import StoredScene
from microturn.interaction_model.training.scene_sound import dmel_of
from microturn.interaction_model.training.speakers import Engine
from microturn.protocols import Samples

SCENES_APART = 10_000
"""Scenes of one seed and task; our choice."""
REHEARSALS_FROM = 10**15
"""Number of the first scene of a rehearsal: no plan of training data comes that far."""


@dataclass(frozen=True, slots=True, eq=False)
class RenderedScene:
    """A scene with what the microphone hears of it."""

    scene: Scene
    sound: Samples
    """`(N * 3200,)`, 16 kHz."""

    def stored(self) -> StoredScene:
        """Return it as a network is given it; the targets are in it too, as in training."""
        scene = self.scene
        packed = pack(scene.inputs(), scene.targets, dmel_of(self.sound))
        drawn = ((turn, scene.frames(turn)) for turn in range(scene.micro_turns))
        films = {turn: pair for turn, pair in drawn if pair is not None}
        return StoredScene(scene.task, scene.split, scene.seed, packed, films)


class SceneRenderer(SceneMaker):
    """A maker of scenes that gives out their sound too."""

    def rendered(self, task: str, number: int) -> RenderedScene:
        """Draw a scene of one task, with its sound."""
        scene = self.scene_of(task, number)
        return RenderedScene(scene, self.sound_of(scene))


@dataclass(frozen=True)
class ExamPlan:
    """Which scenes an exam has."""

    mouth: Path
    """File of the mouth, whose lengths of words scenes and answers keep."""
    tasks: tuple[str, ...] = tuple(TASKS)
    scenes: int = 40
    """Of each task."""
    engines: tuple[Engine, ...] = (Engine.FLITE,)
    """Who speaks. Training may use the same programs, but never the same speakers."""
    seed: int = 0
    split: Split = "test"
    """`train` for a rehearsal."""
    people: Path | None = None
    """Folder with recordings of people, for the digits of those who are never trained on."""
    readings: Path | None = None
    """Transcripts of held-out people who read aloud."""

    def __post_init__(self) -> None:
        if self.split == "train" and (self.people or self.readings):
            expected = "absent from a rehearsal, as they are examined with"
            raise BadTrainConfigError("held-out people", expected=expected, got="some")

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The tasks, with the digits of people and what they read if there are recordings of them."""
        digits = (PEOPLE,) if self.people else ()
        return (*self.tasks, *digits, *((READINGS,) if self.readings else ()))

    @property
    def first_scene(self) -> int:
        """Number of the first scene of each task."""
        return (REHEARSALS_FROM if self.split == "train" else 0) + self.seed * SCENES_APART

    @property
    def synthetic(self) -> ScenePlan:
        """What the scenes with synthetic voices are made from."""
        return ScenePlan(self.mouth, split=self.split, seed=self.seed, engines=self.engines, has_frames=False)

    @property
    def recorded(self) -> ScenePlan:
        """What the scenes with people's digits are made from."""
        return ScenePlan(
            self.mouth,
            split="test",
            seed=self.seed,
            engines=self.engines,
            people=self.people,
            people_share=1.0,
            has_frames=False,
        )


Load = Callable[[ScenePlan], SceneRenderer]


class Readings(Protocol):
    """Gives scenes of recordings by number."""

    def __len__(self) -> int: ...

    def rendered(self, number: int) -> RenderedScene:
        """Write one of them."""


class ExamScenes:
    """Draws the scenes of a plan; blocks, one thread at a time."""

    def __init__(self, plan: ExamPlan, load: Load = SceneRenderer, readings: Readings | None = None) -> None:
        """Load who speaks; `readings` have to be there if the plan has some.

        Raises:
            SpeechProgramMissingError: a program that speaks is not installed.
            MicroturnError: something else that the plan names is missing or broken.
        """
        self._plan = plan
        self._made = load(plan.synthetic)
        self._recorded = load(plan.recorded) if plan.people else None
        self._readings = readings

    def count(self, task: str) -> int:
        """How many scenes of a task there are."""
        if task == READINGS and self._readings is not None:
            return min(self._plan.scenes, len(self._readings))
        return self._plan.scenes

    def rendered(self, task: str, number: int) -> RenderedScene:
        """Draw scene `number`, from 0, of a task of the plan."""
        if task == READINGS and self._readings is not None:
            # They lie in the order of who reads, and all who read are to be heard.
            return self._readings.rendered(number * len(self._readings) // self.count(task))
        seed = self._plan.first_scene + number
        if task == PEOPLE and self._recorded is not None:
            return self._recorded.rendered("digits", seed)
        return self._made.rendered(task, seed)

    def batches(self, task: str, size: int) -> Iterator[Sequence[RenderedScene]]:
        """Yield all scenes of a task, so many at a time."""
        count = self.count(task)
        for first in range(0, count, size):
            yield [self.rendered(task, number) for number in range(first, min(first + size, count))]


def recordings() -> Path | None:
    """Return the folder with recordings of people that the environment names; None if it names none.

    Raises:
        SpeechDataMissingError: it names a folder that is not there.
    """
    return speech_data() if VARIABLE in os.environ else None
