"""Runs the network as it is served on held-out scenes, on its own output, and scores what it did when.

Nothing of the targets is given to the network. Scores count whole words and tasks, matched one to one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from microturn.interaction_model.native.cache import CacheConfig, SessionState
from microturn.interaction_model.native.decoder import Decoder
from microturn.interaction_model.native.decoding import Answer, Emitter, Question
from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Words, read_emission
from microturn.interaction_model.native.eyes import cut_patches
from microturn.interaction_model.native.grammar import (
    AUDIO_TOKENS,
    PositionKind,
    lay_out,
    unpack,
)
from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.pace import OwnWordMs
from microturn.interaction_model.native.script import Cue, Script
from microturn.interaction_model.native.stopwatches import Stopwatches, Times
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.training.scene import MICRO_TURN_MS, Pixels
from microturn.interaction_model.training.scene_shards import StoredScene
from microturn.interaction_model.training.token_choice import Choice, greedy
from microturn.protocols import WovenText

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


class _Player(Emitter):
    """Chooses tokens by scores alone."""

    def __init__(self, decoder: Decoder, choose: Choice) -> None:
        super().__init__(decoder)
        self._chooses = choose

    def _draw(self, questions: Sequence[Question], scores: Tensor) -> list[int]:
        return [int(token) for token in self._chooses(scores).tolist()]


@dataclass(slots=True)
class _Run:
    """Where one scene is."""

    session: SessionState
    watches: Stopwatches = field(default_factory=Stopwatches)
    script: Script = field(default_factory=Script)
    outputs: Outputs = field(default_factory=list)


class FreeRunner:
    """Runs a network freely on some scenes side by side; its weights are copied when it is made.

    Args:
        network: what runs.
        scenes: what it lives through.
        own_word_ms: how long its words take, which decides when those of a result are said.
        choose: how tokens are chosen.
    """

    def __init__(
        self,
        network: Network,
        scenes: Sequence[StoredScene],
        own_word_ms: OwnWordMs,
        choose: Choice = greedy,
    ) -> None:
        self._network = network
        self._own_word_ms = own_word_ms
        self._scenes = scenes
        self._inputs = [unpack(scene.packed)[0] for scene in scenes]
        cache = _cache_for(scenes)
        self._decoder = Decoder(network.model, network.lm_head.weight, cache)
        self._player = _Player(self._decoder, choose)
        self._device = network.lm_head.weight.device

    @torch.no_grad()
    def run(self) -> list[Outputs]:
        """Return what the network does in each micro-turn of each scene."""
        runs = [_Run(self._decoder.open()) for _ in self._scenes]
        for turn in range(max(map(len, self._inputs))):
            here = [number for number, inputs in enumerate(self._inputs) if turn < len(inputs)]
            arrived = [self._arrive(runs[number], number, turn) for number in here]
            hidden = self._decoder.advance([runs[number].session for number in here], arrived)
            going = [runs[number] for number in here]
            questions = [
                Question(run.session, own[-1], 0, Cue(run.script, turn, self._own_word_ms))
                for run, own in zip(going, hidden, strict=True)
            ]
            for run, answer in zip(going, self._player.emit(questions), strict=True):
                self._take(run, turn, answer)
        return [run.outputs for run in runs]

    def _arrive(self, run: _Run, number: int, turn: int) -> Tensor:
        """Hand over what arrives in one micro-turn of one scene; return its embeddings `(T, C)`."""
        given = self._inputs[number][turn]
        woven = [WovenText(f"{turn}-{n}", " ".join(words)) for n, words in enumerate(given.background)]
        run.watches = run.watches.reading(turn, given.text)
        run.script = run.script.given(woven, given.text, turn)
        return self._arrivals(number, turn, run.watches.times(turn))

    def _take(self, run: _Run, turn: int, answer: Answer) -> None:
        emission = read_emission(answer.tokens)
        run.outputs.append(answer.tokens)
        run.watches = run.watches.after(turn, answer.tokens)
        run.script = run.script.after(turn, emission, answer.passage, self._own_word_ms).script

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


def score_scenes(
    network: Network, scenes: Sequence[StoredScene], own_word_ms: OwnWordMs
) -> dict[str, FreeScore]:
    """Run scenes freely and add up their scores by kind of event."""
    total: dict[str, FreeScore] = defaultdict(FreeScore)
    for scene, outputs in zip(scenes, FreeRunner(network, scenes, own_word_ms).run(), strict=True):
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
