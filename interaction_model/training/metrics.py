"""How well held-out scenes are answered while the right answers so far are given: by task and by kind of token.

Counts, so that batches add up; a share of nothing is None and never averaged in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from microturn.interaction_model.native.emission import output_mask
from microturn.interaction_model.native.grammar import NO_TARGET, PositionKind
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.vocabulary import WORDS, Token, heard_token, said_token
from microturn.interaction_model.training.batches import Batch
from microturn.interaction_model.training.objective import hidden_states


class TargetKind(IntEnum):
    """What a position has to predict."""

    SILENCE = 0
    """END as the whole answer of a micro-turn."""
    END = 1
    """END after other output."""
    HEARD = 2
    SAID = 3
    MARK = 4
    """DELEGATE, END_DELEGATE, CANCEL, BACKCHANNEL, HUSH."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Positions by task (rows) and `TargetKind` (columns)."""

    positions: Tensor
    """(tasks, kinds) int64"""
    right: Tensor
    """(tasks, kinds) int64: those whose best token was the right one."""
    nats: Tensor
    """(tasks, kinds) float64: summed cross-entropy."""

    @classmethod
    def nothing(cls, tasks: int) -> Tally:
        """No positions."""
        shape = (tasks, len(TargetKind))
        zeros = torch.zeros(shape, dtype=torch.int64)
        return cls(zeros, zeros, torch.zeros(shape, dtype=torch.float64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.positions + other.positions, self.right + other.right, self.nats + other.nats)

    def accuracy(self, task: int, *kinds: TargetKind) -> float | None:
        """The share of right tokens of a task, over some kinds or all."""
        columns = list(kinds or TargetKind)
        positions = int(self.positions[task, columns].sum())
        return int(self.right[task, columns].sum()) / positions if positions else None

    def mean_nats(self, task: int | None = None) -> float | None:
        """The mean cross-entropy of a task or of all, every position counting the same."""
        rows = slice(None) if task is None else slice(task, task + 1)
        positions = int(self.positions[rows].sum())
        return float(self.nats[rows].sum()) / positions if positions else None


def kinds_of(targets: Tensor, kinds: Tensor) -> Tensor:
    """The `TargetKind` of targets `(n,)` at positions of kinds `(n,)`: `(n,)` int64."""
    of_token = torch.full((len(output_mask()),), int(TargetKind.MARK))
    of_token[[heard_token(word) for word in WORDS]] = int(TargetKind.HEARD)
    of_token[[said_token(word) for word in WORDS]] = int(TargetKind.SAID)
    of_token[Token.END] = int(TargetKind.END)
    found = of_token.to(targets.device)[targets]
    is_silence = (targets == Token.END) & (kinds == PositionKind.NOW)
    return found.masked_fill(is_silence, int(TargetKind.SILENCE))


@torch.no_grad()
def tally(network: Network, batch: Batch, tasks: int) -> Tally:
    """Count a batch; `tasks` is how many names of tasks there are."""
    asked = batch.targets != NO_TARGET
    scores = network.logits(hidden_states(network, batch)[asked]).float()
    allowed = torch.from_numpy(output_mask()).to(scores.device)
    logs = scores.masked_fill(~allowed, -torch.inf).log_softmax(-1)
    targets = batch.targets[asked]
    cells = batch.tasks[asked] * len(TargetKind) + kinds_of(targets, batch.kinds[asked])
    nats = -logs.gather(1, targets[:, None])[:, 0].double()
    right = logs.argmax(-1) == targets
    size = tasks * len(TargetKind)
    shape = (tasks, len(TargetKind))
    return Tally(
        cells.bincount(minlength=size).view(shape).cpu(),
        cells[right].bincount(minlength=size).view(shape).cpu(),
        cells.bincount(nats, minlength=size).view(shape).cpu(),
    )
