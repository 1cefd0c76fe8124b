"""The weaver against a listener who hears every word: random cuts and crashes lose nothing and repeat only a clause."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from microturn.protocols import (
    SETTLED,
    DelegationEvent,
    Floor,
    FloorState,
    Promise,
    Receipt,
    SessionLedger,
    Speech,
    WovenText,
)
from microturn.runtime.reopened import with_words_heard
from microturn.runtime.rest import LOOK_BACK_WORDS, REST_PREFIX
from microturn.runtime.weave_policy import Moment
from microturn.runtime.weaver import CUTS_LIMIT, Weaver

pytestmark = pytest.mark.unit

RUNS = 300
TASKS = ("a", "b", "c")


@dataclass
class World:
    """A session whose process may die, the bus that keeps its receipts, and a client that outlives it."""

    seed: int
    weaver: Weaver = field(default_factory=Weaver)
    now_ms: float = 0.0
    events: list[DelegationEvent] = field(default_factory=list)
    stored: dict[tuple[str, int], Receipt] = field(default_factory=dict)
    played: dict[str, int] = field(default_factory=dict)
    """What the client says that it has played."""
    heard: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """The numbers of the words of each piece, as they were heard."""
    history: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    fates: dict[tuple[str, int], str] = field(default_factory=dict)
    cuts: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def arrive(self) -> None:
        """Let the next piece of a task come, now and then twice."""
        task_id = self.random.choice(TASKS)
        seq = sum(event.task_id == task_id for event in self.events)
        words = [
            f"{task_id}{seq}.{n}{self.random.choice(['', '', '', ',', '.'])}"
            for n in range(self.random.randint(1, 14))
        ]
        mode = self.random.choice(["pause", "pause", "idle", "interrupt"])
        speech = Speech.model_validate(
            {"text": " ".join(words), "mode": mode, "priority": self.random.randint(0, 2)}
        )
        event = DelegationEvent(task_id=task_id, attempt=1, seq=seq, kind="partial", speech=speech)
        self.events.append(event)
        for _ in range(self.random.choice([1, 1, 2])):
            self.weaver.offer(event, self.now_ms)
        self.store()

    def speak(self, *, cut_chance: float) -> bool:
        """Say what is due, to its end or until it is cut off; tells whether there was anything."""
        self.now_ms += 2000
        quiet = FloorState(Floor.NOBODY, round(self.now_ms) - 2000)
        woven = self.weaver.weave(Moment(self.now_ms, quiet))
        self.store()
        for item in woven:
            self.play(item, is_cut=self.random.random() < cut_chance)
        return bool(woven)

    def play(self, item: WovenText, *, is_cut: bool) -> None:
        words = item.text.split()
        until = self.random.randint(0, len(words) - 1) if is_cut else len(words)
        for count in range(1, until + 1):
            self.listen(words[count - 1])
            self.played[item.item_id] = count
            if self.random.random() < 0.5:
                self.weaver.heard(item.item_id, count, False, self.now_ms)
                self.store()
            if self.random.random() < 0.03:
                self.crash()
                return
        self.weaver.heard(item.item_id, until, True, self.now_ms)
        self.store()

    def listen(self, word: str) -> None:
        if word in REST_PREFIX.split():
            return
        piece, _, number = word.strip(",.").partition(".")
        self.heard.setdefault((piece[0], int(piece[1:])), []).append(int(number))

    def store(self) -> None:
        """Let the receipts reach the bus."""
        for receipt in self.weaver.take_receipts():
            key = (receipt.task_id, receipt.seq)
            assert key not in self.fates, "a piece has two fates"
            if receipt.state in SETTLED:
                self.fates[key] = receipt.state
            known = self.stored.get(key)
            assert known is None or receipt.words_heard >= known.words_heard, "a receipt went backwards"
            self.cuts[key] = self.cuts.get(key, 0) + (receipt.state == "interrupted")
            self.stored[key] = receipt

    def crash(self) -> None:
        """Lose the process, and take the session over with what is stored and what the client knows."""
        self.weaver.take_receipts()  # those that did not reach the bus are lost
        promises = tuple(
            Promise(
                task_id=task_id,
                intent="x",
                state="open",
                task_state="running",
                made_ms=0,
                events=tuple(event for event in self.events if event.task_id == task_id),
                receipts=tuple(r for (owner, _), r in sorted(self.stored.items()) if owner == task_id),
            )
            for task_id in TASKS
        )
        ledger = SessionLedger(session_id="s", runtime_id="r", epoch=1, elapsed_ms=0, promises=promises)
        merged = with_words_heard(ledger, self.played)
        self.weaver = Weaver()
        for promise in merged.promises:
            receipts = {receipt.seq: receipt for receipt in promise.receipts}
            for event in promise.events:
                self.weaver.restore(event, receipts.get(event.seq), self.now_ms)
        self.store()


def run(seed: int, *, cut_chance: float) -> World:
    world = World(seed)
    for _ in range(30):
        if world.random.random() < 0.4:
            world.arrive()
        elif world.random.random() < 0.05:
            world.crash()
        else:
            world.speak(cut_chance=cut_chance)
    while world.speak(cut_chance=0.0):
        pass
    return world


@pytest.mark.parametrize("cut_chance", [0.0, 0.3])
def test_every_word_is_heard_in_order_and_only_a_clause_of_what_was_cut_is_heard_again(
    cut_chance: float,
) -> None:
    pieces = 0
    for seed in range(RUNS):
        world = run(seed, cut_chance=cut_chance)
        assert world.weaver.is_empty, f"seed {seed}"
        for event in world.events:
            assert event.speech is not None
            key, total = (event.task_id, event.seq), len(event.speech.text.split())
            pieces += 1
            if world.fates[key] != "heard":
                assert (world.fates[key], world.cuts[key] >= CUTS_LIMIT) in {
                    ("dropped", True),
                    ("expired", False),
                }
                continue
            reach = -1
            for number in world.heard[key]:
                assert number <= reach + 1, f"seed {seed}: words of {key} were left out"
                assert reach - number < LOOK_BACK_WORDS, f"seed {seed}: too much of {key} was said again"
                reach = max(reach, number)
            assert reach == total - 1, f"seed {seed}: {key} was not heard to its end"
    assert pieces > 1000
