"""Looks at held-out scenes: their loss, what is right by task, and what the network does when it runs freely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.training.batches import Collator
from microturn.interaction_model.training.epoch import EpochPlan, Row, SceneRef
from microturn.interaction_model.training.free_run import FreeScore, score_scenes
from microturn.interaction_model.training.metrics import Tally, TargetKind, tally
from microturn.interaction_model.training.scene_shards import SceneEntry, SceneShard

WORDS = (TargetKind.HEARD, TargetKind.SAID)


class Evaluator:
    """Always the same scenes, whatever the seed of the run.

    Args:
        shards: where the scenes lie.
        scenes: those to look at; there may be none.
        tasks: names of tasks, as `collate` numbers them.
        collate: makes batches.
        own_word_ms: how long words take in a free run.
        device: where the network is.
    """

    def __init__(
        self,
        shards: Sequence[SceneShard],
        scenes: Mapping[SceneRef, SceneEntry],
        tasks: Sequence[str],
        collate: Collator,
        own_word_ms: OwnWordMs,
        device: str = "cpu",
    ) -> None:
        self._shards = shards
        self._scenes = scenes
        self._tasks = tasks
        self._collate = collate
        self._own_word_ms = own_word_ms
        self._device = device

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        return not self._scenes

    def held_out(self, network: Network, rows: int, batches: int) -> dict[str, Any]:
        """Give the right answers so far, and look at the next token.

        Returns:
            `loss`, and for each task in `tasks` its `loss`, and the shares of right tokens: `words`, `marks`, `silence`.
        """
        network.eval()
        total = Tally.nothing(len(self._tasks))
        for drawn in self._batches(rows, batches):
            total += tally(network, self._collate(drawn).to(self._device), len(self._tasks))
        described = {
            task: {
                "loss": total.mean_nats(number),
                "words": total.accuracy(number, *WORDS),
                "marks": total.accuracy(number, TargetKind.MARK),
                "silence": total.accuracy(number, TargetKind.SILENCE),
            }
            for number, task in enumerate(self._tasks)
        }
        return {"loss": total.mean_nats(), "tasks": described}

    def free_run(self, network: Network, scenes: int) -> dict[str, Any]:
        """Let the network run on its own output, on so many scenes of each task.

        Returns:
            For each task in `tasks` and each kind of event its counts, `hit_rate` and `false_per_minute`.
        """
        network.eval()
        described = {}
        for task in self._tasks:
            refs = [ref for ref, entry in self._scenes.items() if entry.task == task][:scenes]
            if refs:
                read = [self._shards[ref.shard].scene(ref.number) for ref in refs]
                found = score_scenes(network, read, self._own_word_ms)
                described[task] = {kind: _described(score) for kind, score in found.items()}
        return {"tasks": described}

    def _batches(self, rows: int, batches: int) -> list[list[Row]]:
        tokens = self._collate.row_tokens
        epoch = EpochPlan(self._scenes, tokens, {}, seed=0).epoch(0)[: rows * batches]
        return [epoch[begin : begin + rows] for begin in range(0, len(epoch), rows)]


def _described(score: FreeScore) -> dict[str, Any]:
    return {**asdict(score), "hit_rate": score.hit_rate, "false_per_minute": score.false_per_minute}
