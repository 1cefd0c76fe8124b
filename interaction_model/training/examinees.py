"""Who sits the exam: a network that runs freely, and baselines that show what a figure is worth.

All get the same scenes and are scored in the same way. Only the ceiling looks at what a scene's targets are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.native.vocabulary import said_token
from microturn.interaction_model.training.conduct import Conduct, conduct_of
from microturn.interaction_model.training.exam_scenes import RenderedScene
from microturn.interaction_model.training.free_run import FreeRunner, Outputs
from microturn.interaction_model.training.token_choice import Choice, greedy
from microturn.protocols import INPUT_SAMPLES, Samples

_LOUDER_THAN_FLOOR = 4.0
"""A micro-turn is speech if its level is this many times that of the quietest one so far (12 dB); our choice."""
_LOWEST_FLOOR = 1e-4
_QUIET_TURNS = 2
"""Micro-turns of silence after which speech is taken for finished: 400 ms; our choice."""


class Examinee(Protocol):
    """Somebody who can be examined."""

    @property
    def name(self) -> str:
        """What stands above its figures."""

    @property
    def impossible(self) -> frozenset[str]:
        """Tasks and figures that it cannot do by how it is made; it is not asked for them."""

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """Live through some scenes, each alone, and return what it did in each; blocks."""


class NetworkExaminee:
    """A network that runs freely, all scenes side by side; its words take as long as the mouth says."""

    impossible = frozenset[str]()

    def __init__(
        self, network: Network, own_word_ms: OwnWordMs, name: str = "network", choose: Choice = greedy
    ) -> None:
        self.name = name
        self._choose = choose
        self._network = network.eval()
        self._own_word_ms = own_word_ms

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """See `Examinee`."""
        stored = [scene.stored() for scene in scenes]
        outputs = FreeRunner(self._network, stored, self._own_word_ms, self._choose).run()
        return [conduct_of(each, self._own_word_ms) for each in outputs]


def without_clock(network: Network) -> Network:
    """Return a copy of a network whose clock says nothing: what it still does on time it knows from its context."""
    stopped = copy.deepcopy(network)
    stopped.clock.hands.weight.data.zero_()
    return stopped


class SilentExaminee:
    """Does nothing at all: the floor of every figure."""

    name = "silence"
    impossible = frozenset[str]()

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """See `Examinee`."""
        return [Conduct() for _ in scenes]


class OkayExaminee:
    """Says "okay" whenever sound has ended, as an endpointer by level would: what can be had without understanding."""

    name = "okay"
    impossible = frozenset[str]()

    def __init__(self, own_word_ms: OwnWordMs) -> None:
        self._own_word_ms = own_word_ms

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """See `Examinee`."""
        return [conduct_of(_okays(scene.sound), self._own_word_ms) for scene in scenes]


class TargetExaminee:
    """Does what the targets of a scene say: the ceiling that training can reach, and what the beat itself costs."""

    name = "targets"
    impossible = frozenset[str]()

    def __init__(self, own_word_ms: OwnWordMs) -> None:
        self._own_word_ms = own_word_ms

    def sit(self, scenes: Sequence[RenderedScene]) -> list[Conduct]:
        """See `Examinee`."""
        return [conduct_of(scene.scene.targets, self._own_word_ms) for scene in scenes]


def _okays(sound: Samples) -> Outputs:
    """For each micro-turn its tokens."""
    outputs: Outputs = []
    quiet = _QUIET_TURNS + 1
    for is_loud in _loud_turns(sound):
        quiet = 0 if is_loud else quiet + 1
        outputs.append((said_token("okay"),) if quiet == _QUIET_TURNS else ())
    return outputs


def _loud_turns(sound: Samples) -> npt.NDArray[np.bool_]:
    """`(N * 3200,)` to `(N,)`; each from what came before it alone."""
    levels = np.sqrt(np.mean(np.square(sound.reshape(-1, INPUT_SAMPLES), dtype=np.float64), axis=1))
    floor = np.maximum(np.minimum.accumulate(levels), _LOWEST_FLOOR)
    return np.asarray(levels > _LOUDER_THAN_FLOOR * floor)
