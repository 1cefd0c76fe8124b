"""What a folder of scenes holds, task by task, counted from its shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from microturn.interaction_model.native.vocabulary import WORDS, heard_token, said_token
from microturn.interaction_model.training.scene import MICRO_TURN_MS
from microturn.interaction_model.training.scene_shards import SceneShard, open_shards

TURNS_AN_HOUR = 3_600_000 // MICRO_TURN_MS


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Of the scenes of one task, or of all."""

    scenes: int = 0
    micro_turns: int = 0
    tokens: int = 0
    """Positions of the network."""
    heard: int = 0
    """Words that are to be written down, those of intents among them."""
    said: int = 0
    """Words that are to be said."""
    spoken: int = 0
    """Micro-turns with frames for the mouth."""
    pairs: int = 0
    """Of camera frames."""

    def __add__(self, other: TaskCount) -> TaskCount:
        """Return both together."""
        return TaskCount(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    @property
    def hours(self) -> float:
        """Length of the scenes."""
        return self.micro_turns / TURNS_AN_HOUR


def count_scenes(folder: Path) -> dict[str, TaskCount]:
    """Count the scenes in and below a folder, by task, the longest first.

    Raises:
        BadShardError: a shard is broken.
    """
    counts: dict[str, TaskCount] = {}
    for shard in open_shards(folder):
        for number, entry in enumerate(shard.entries):
            counts[entry.task] = counts.get(entry.task, TaskCount()) + _count(shard, number)
    return dict(sorted(counts.items(), key=lambda item: -item[1].micro_turns))


def bytes_in(folder: Path) -> int:
    """Return the size of all files in and below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def table(counts: Mapping[str, TaskCount]) -> Table:
    """Return the counts as a table for a terminal: words heard and said, seconds with frames of mouth and film."""
    whole = sum(counts.values(), TaskCount())
    shown = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    shown.add_column("task", no_wrap=True)
    for head in _HEADS:
        shown.add_column(head, justify="right", no_wrap=True)
    for task, count in counts.items():
        shown.add_row(task, *_cells(count, whole))
    shown.add_section()
    shown.add_row("all", *_cells(whole, whole))
    return shown


_HEARD, _SAID = ([token_of(word) for word in WORDS] for token_of in (heard_token, said_token))
_HEADS = ("scenes", "hours", "share", "tok/s", "heard", "said", "mouth s", "film s")


def _cells(count: TaskCount, whole: TaskCount) -> list[str]:
    seconds = max(count.micro_turns * MICRO_TURN_MS / 1000, 1e-9)
    return [
        f"{count.scenes:,}",
        f"{count.hours:.2f}",
        f"{count.micro_turns / max(whole.micro_turns, 1):.1%}",
        f"{count.tokens / seconds:.1f}",
        f"{count.heard:,}",
        f"{count.said:,}",
        f"{count.spoken * MICRO_TURN_MS / 1000:,.0f}",
        f"{count.pairs * MICRO_TURN_MS / 1000:,.0f}",
    ]


def _count(shard: SceneShard, number: int) -> TaskCount:
    entry = shard.entries[number]
    targets = shard.targets(number)
    heard, said = (int(np.isin(targets, tokens).sum()) for tokens in (_HEARD, _SAID))
    return TaskCount(1, entry.micro_turns, entry.tokens, heard, said, entry.spoken, entry.pairs)
