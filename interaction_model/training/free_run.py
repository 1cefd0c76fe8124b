"""Runs the network as it is served on held-out scenes, on its own output, and scores what it did when.

Nothing of the targets is given to the network. Scores count whole words and tasks, matched one to one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model.native.cache import CacheConfig, SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Words, output_mask, read_emission
from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.grammar import (
    AUDIO_TOKENS,
    PositionKind,
    lay_out,
    unpack,
)
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.stopwatches import Stopwatches, Times
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.training.scene import MICRO_TURN_MS, Pixels
from microturn.interaction_model.training.scene_shards import StoredScene
from microturn.interaction_model.training.token_choice import Choice, greedy

TOLERANCE = 1
"""Micro-turns by which an event may come early or late and still count as a hit; our choice."""
Outputs = list[tuple[int, ...]]
"""Of each micro-turn its output tokens, without END."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the assistant did."""

    kind: str
    """`heard`, `said`, `task`, `cancel`, `backchannel` or `hush`."""
    words: Words
    micro_turn: int


@dataclass(frozen=True, slots=True)
class FreeScore:
    """How the events of some scenes fit the right ones."""

    wanted: int = 0
    hits: int = 0
    """Right ones that were done within `TOLERANCE`."""
    exact: int = 0
    """Those of them that were done in the very micro-turn."""
    false: int = 0
    """Events that were done and match no right one."""
    minutes: float = 0.0
    """Length of the scenes."""

    def __add__(self, other: FreeScore) -> FreeScore:
        return FreeScore(
            self.wanted + other.wanted,
            self.hits + other.hits,
            self.exact + other.exact,
            self.false + other.false,
            self.minutes + other.minutes,
        )

    @property
    def hit_rate(self) -> float | None:
        """Hits of the right events; None if there were none."""
        return self.hits / self.wanted if self.wanted else None

    @property
    def false_per_minute(self) -> float | None:
        """None for scenes of no length."""
        return self.false / self.minutes if self.minutes else None


class FreeRunner:
    """Runs a network freely on some scenes side by side; its weights are copied when it is made."""

    def __init__(self, network: Network, scenes: Sequence[StoredScene], choose: Choice = greedy) -> None:
        self._network = network
        self._choose = choose
        self._scenes = scenes
        self._inputs = [unpack(scene.packed)[0] for scene in scenes]
        cache = _cache_for(scenes)
        self._decoder = Decoder(network.model, network.lm_head.weight, cache)
        self._device = network.lm_head.weight.device
        self._forbidden = ~torch.from_numpy(output_mask()).to(self._device)

    @torch.no_grad()
    def run(self) -> list[Outputs]:
        """Return what the network does in each micro-turn of each scene."""
        sessions = [self._decoder.open() for _ in self._scenes]
        watches = [Stopwatches() for _ in sessions]
        done: list[Outputs] = [[] for _ in sessions]
        for turn in range(max(map(len, self._inputs))):
            here = [number for number, inputs in enumerate(self._inputs) if turn < len(inputs)]
            for number in here:
                watches[number] = watches[number].reading(turn, self._inputs[number][turn].text)
            arrived = [self._arrivals(number, turn, watches[number].times(turn)) for number in here]
            states = [sessions[number] for number in here]
            hidden = [each[-1:] for each in self._decoder.advance(states, arrived)]
            for number, tokens in zip(here, self._answers(states, hidden), strict=True):
                done[number].append(tokens)
                watches[number] = watches[number].after(turn, tokens)
        return done

    def _arrivals(self, number: int, turn: int, times: Times) -> Tensor:
        """Embeddings of what arrives in one micro-turn of one scene: `(T, C)`."""
        scene = self._scenes[number]
        laid = lay_out(self._inputs[number][turn], first_frame=0, first_patch=0)
        kinds = torch.from_numpy(laid.kinds).to(self._device)
        ids = torch.from_numpy(laid.ids.astype(np.int64)).to(self._device)
        ids = ids.masked_fill((kinds == PositionKind.AUDIO) | (kinds == PositionKind.PATCH), int(Token.AUDIO))
        x = self._decoder.embed(ids).clone()
        levels = scene.packed.levels[AUDIO_TOKENS * turn : AUDIO_TOKENS * (turn + 1)]
        x[kinds == PositionKind.AUDIO] = self._network.audio_tower.embed(torch.from_numpy(np.array(levels)))
        if turn in scene.films:
            x[kinds == PositionKind.PATCH] = self._seen(scene.films[turn])
        x[-1] += self._network.clock.embed(torch.tensor([times], device=self._device))[0]
        return x

    def _seen(self, pixels: Pixels) -> Tensor:
        eyes = self._network.vision_tower
        return eyes.embed(cut_patches(pixels, eyes.config))

    def _answers(self, sessions: Sequence[SessionState], hidden: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """Let each session emit tokens until it ends its micro-turn."""
        outputs: list[list[int]] = [[] for _ in sessions]
        asked, last = list(range(len(sessions))), list(hidden)
        for _ in range(MAX_OUTPUT_TOKENS + 1):
            scores = self._decoder.logits(torch.cat(last)).masked_fill(self._forbidden, -torch.inf)
            chosen = dict(zip(asked, self._choose(scores).tolist(), strict=True))
            asked = [
                number
                for number in asked
                if chosen[number] != Token.END and len(outputs[number]) < MAX_OUTPUT_TOKENS
            ]
            if not asked:
                break
            for number in asked:
                outputs[number].append(chosen[number])
            tokens = torch.tensor([[chosen[number]] for number in asked], device=self._device)
            embedded = [self._decoder.embed(token) for token in tokens]
            last = self._decoder.advance([sessions[number] for number in asked], embedded)
        return [tuple(tokens) for tokens in outputs]


def events_of(outputs: Sequence[Sequence[int]]) -> list[Event]:
    """Read the output tokens of all micro-turns as events."""
    events = []
    for turn, tokens in enumerate(outputs):
        emission = read_emission(tokens)
        events += [Event("heard", (word,), turn) for word in emission.heard]
        events += [Event("said", (word,), turn) for word in emission.said]
        events += [Event("task", intent, turn) for intent in emission.tasks]
        events += [Event("cancel", (), turn)] * emission.cancels
        events += [Event("backchannel", (), turn)] * emission.backchannel
        events += [Event("hush", (), turn)] * emission.hushes
    return events


def score(wanted: Sequence[Event], done: Sequence[Event], micro_turns: int) -> dict[str, FreeScore]:
    """Match events of each kind one to one.

    Events that are alike are matched in order of time, the earliest that is near enough; for windows of one width this
    finds as many pairs as there can be.
    """
    minutes = micro_turns * MICRO_TURN_MS / 60_000
    kinds = ("heard", "said", "task", "cancel", "backchannel", "hush")
    return {kind: _score_kind(_times(wanted, kind), _times(done, kind), minutes) for kind in kinds}


def score_scenes(network: Network, scenes: Sequence[StoredScene]) -> dict[str, FreeScore]:
    """Run scenes freely and add up their scores by kind of event."""
    total: dict[str, FreeScore] = defaultdict(FreeScore)
    for scene, outputs in zip(scenes, FreeRunner(network, scenes).run(), strict=True):
        wanted = events_of(unpack(scene.packed)[1])
        for kind, found in score(wanted, events_of(outputs), len(outputs)).items():
            total[kind] += found
    return dict(total)


def _cache_for(scenes: Sequence[StoredScene]) -> CacheConfig:
    """Room for all scenes, whatever is emitted."""
    page = CacheConfig().page_tokens
    most = [len(scene.packed.kinds) + MAX_OUTPUT_TOKENS * len(scene.packed.last) for scene in scenes]
    pages = sum(-(-tokens // page) + 1 for tokens in most)
    return CacheConfig(global_pages=pages, sliding_pages=pages)


def _times(events: Sequence[Event], kind: str) -> Mapping[Words, list[int]]:
    times: dict[Words, list[int]] = defaultdict(list)
    for event in sorted(events, key=lambda each: each.micro_turn):
        if event.kind == kind:
            times[event.words].append(event.micro_turn)
    return times


def _score_kind(
    wanted: Mapping[Words, list[int]], done: Mapping[Words, list[int]], minutes: float
) -> FreeScore:
    hits = sum(_matched(times, done.get(words, [])) for words, times in wanted.items())
    exact = sum((Counter(times) & Counter(done.get(words, []))).total() for words, times in wanted.items())
    total = sum(map(len, done.values()))
    return FreeScore(sum(map(len, wanted.values())), hits, exact, total - hits, minutes)


def _matched(wanted: Sequence[int], done: Sequence[int]) -> int:
    left = list(done)
    hits = 0
    for time in wanted:
        near = next((other for other in left if abs(other - time) <= TOLERANCE), None)
        if near is not None:
            left.remove(near)
            hits += 1
    return hits
