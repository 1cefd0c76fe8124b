"""What a folder of scenes is made from. Knows nothing of how a scene is made.

Scene number n of shard k follows from the plan, k and n, whatever was made before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from microturn.interaction_model.native.vocabulary import FINGERPRINT
from microturn.interaction_model.training._errors import BadTrainConfigError
from microturn.interaction_model.training.hearing_task import TASK as HEARING
from microturn.interaction_model.training.mixing import DEFAULT_WEIGHTS, TASKS
from microturn.interaction_model.training.reading_task import TASK as READING
from microturn.interaction_model.training.real_speech import spoken_digits, talk_files
from microturn.interaction_model.training.scene import Split
from microturn.interaction_model.training.shard_folder import Plan, shard_files
from microturn.interaction_model.training.speakers import Engine
from microturn.interaction_model.training.speakers import Split as SpeakerSplit

FORMAT = 2
"""Raised when the same plan gives other scenes."""
SHARD_MINUTES = 20
"""Length of a shard: about a minute of work that a kill can lose."""
HEARING_WEIGHT = 4.0
"""Of the phrases of a bank, beside `DEFAULT_WEIGHTS`, if there is one."""
READING_WEIGHT = 4.0
"""Of what people read aloud, beside `DEFAULT_WEIGHTS`, if there are transcripts."""
_SCENES_APART = 10_000
_SHARDS_APART = 100_000


@dataclass(frozen=True)
class ScenePlan:
    """What scenes are made from."""

    mouth: Path
    """File of a mouth, whose lengths of words the scenes keep."""
    split: Split = "train"
    seed: int = 0
    engines: tuple[Engine, ...] = (Engine.HIBARI,)
    weights: tuple[tuple[str, float], ...] = ()
    """Those that are not as usual."""
    bank: Path | None = None
    """Folder of clips for the task of hearing."""
    transcripts: Path | None = None
    """File of what people say in recordings, for the task of reading; needs `people`."""
    people: Path | None = None
    """Folder with recordings of people."""
    people_share: float = 0.15
    """Share of scenes of digits that are said by them."""
    talk_share: float = 0.5
    """Share of scenes in which other people, where there are any, are recordings."""
    written_share: float | None = None
    """Share of all requests of the train split that are typed; if None each task has its own."""
    has_frames: bool = True
    """Whether the mouth is given frames to learn from."""

    def __post_init__(self) -> None:
        if self.transcripts and self.people is None:
            expected = "absent, or beside recordings of people"
            raise BadTrainConfigError("transcripts", expected=expected, got=self.transcripts.name)
        unknown = sorted({name for name, _ in self.weights} - set(self.all_tasks))
        if unknown:
            expected = f"of {', '.join(sorted(self.all_tasks))}"
            raise BadTrainConfigError("a task", expected=expected, got=unknown[0])
        weights = self.all_weights.values()
        if any(weight < 0 for weight in weights) or not sum(weights) > 0:
            raise BadTrainConfigError("weights", expected="0 or more and not all 0", got=list(weights))

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The names of the tasks that there can be."""
        return (*TASKS, *self._weights_of_sound)

    @property
    def all_weights(self) -> Mapping[str, float]:
        """How often each task comes up, against the others."""
        return {**DEFAULT_WEIGHTS, **self._weights_of_sound, **dict(self.weights)}

    @property
    def speakers(self) -> SpeakerSplit:
        """Which speakers are heard."""
        return SpeakerSplit.TRAIN if self.split == "train" else SpeakerSplit.HELD_OUT

    def first_scene(self, shard: int) -> int:
        """Return the number of a shard's first scene; the others follow."""
        return (self.seed * _SHARDS_APART + shard) * _SCENES_APART

    @cached_property
    def as_written(self) -> Plan:
        """What the folder remembers: plans that differ in length alone share their shards."""
        return {
            "format": FORMAT,
            "vocabulary": FINGERPRINT,
            "split": self.split,
            "seed": self.seed,
            "engines": [str(engine) for engine in sorted(self.engines)],
            "weights": [f"{task}={weight:g}" for task, weight in sorted(self.all_weights.items())],
            "mouth": hashlib.sha256(self.mouth.read_bytes()).hexdigest(),
            "bank": _digest(shard_files(self.bank)) if self.bank else "",
            "people": self._people_digest(),
            "people_share": self.people_share,
            "talk_share": self.talk_share,
            "has_frames": self.has_frames,
            "shard_minutes": SHARD_MINUTES,
            **self._transcripts_digest(),
            **self._unusual_share(),
        }

    @property
    def _weights_of_sound(self) -> Mapping[str, float]:
        """Of the tasks for which there has to be sound."""
        hearing = {HEARING: HEARING_WEIGHT} if self.bank else {}
        return {**hearing, **({READING: READING_WEIGHT} if self.transcripts else {})}

    def _people_digest(self) -> str:
        if self.people is None:
            return ""
        digits = (each.path for each in spoken_digits(self.people))
        return _digest([*digits, *talk_files(self.speakers, self.people)])

    def _transcripts_digest(self) -> Plan:
        """Nothing without transcripts, so that folders that were made before there were any can be gone on with."""
        if self.transcripts is None:
            return {}
        return {"transcripts": hashlib.sha256(self.transcripts.read_bytes()).hexdigest()}

    def _unusual_share(self) -> Plan:
        """Nothing as long as shares are the usual ones, which folders that were made before do not name."""
        return {} if self.written_share is None else {"written_share": self.written_share}


def _digest(files: Iterable[Path]) -> str:
    """Names and sizes of files, which tell recordings apart well enough."""
    lines = "\n".join(f"{file.name} {file.stat().st_size}" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()
