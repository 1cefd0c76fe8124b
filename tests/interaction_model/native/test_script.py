"""Results are said in their own words and at the network's time, whatever the network would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from microturn.interaction_model.native.emission import MAX_OUTPUT_TOKENS, Words, output_mask, read_emission
from microturn.interaction_model.native.script import (
    BEGIN_WITHIN,
    LONGEST_REPLY,
    Cue,
    Passage,
    Script,
    Taken,
)
from microturn.interaction_model.native.user_turn import TURN_GAP
from microturn.interaction_model.native.vocabulary import Token
from microturn.interaction_model.training.cast import Cast, EstimatedVoices
from microturn.interaction_model.training.stage import Stage
from microturn.protocols import WovenText
from tests.interaction_model.native.small_models import hear, say

pytestmark = pytest.mark.unit

WEATHER = "it is fourteen degrees in london"
FOUND = tuple(WEATHER.split())
HUSH = int(Token.HUSH)


def word_ms(word: str, before: str | None) -> int:
    """Some words shorter than a micro-turn, some longer than two; shorter behind another."""
    return 75 + 50 * len(word) - 25 * (before is not None)


@dataclass
class Played:
    """A network that would say what is written, beside its script."""

    wanted: Mapping[int, Sequence[int]]
    results: Mapping[int, Sequence[str]] = field(default_factory=dict)
    typed: Mapping[int, Words] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    passages: list[Passage] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    def step(self) -> None:
        turn = len(self.tokens)
        woven = [WovenText(text, text) for text in self.results.get(turn, ())]
        self.script = self.script.given(woven, self.typed.get(turn, ()), turn)
        tokens, passage = self._answer(Cue(self.script, turn, word_ms), self.wanted.get(turn, ()))
        taken = self.script.after(turn, read_emission(tokens), passage, word_ms)
        self.script = taken.script
        self.tokens.append(tokens)
        self.passages.append(passage)
        self.taken.append(taken)

    def _answer(self, cue: Cue, wanted: Sequence[int]) -> tuple[tuple[int, ...], Passage]:
        tokens: tuple[int, ...] = ()
        for token in (*wanted, int(Token.END)):
            if len(tokens) == MAX_OUTPUT_TOKENS:
                break
            passage = cue.decide(tokens, token)
            if passage is not None:
                return (*tokens, *passage.tokens), passage
            tokens = (*tokens, token)
        return tokens, Passage()

    @property
    def said(self) -> dict[int, Words]:
        """Words that were said, by the micro-turn in which they begin."""
        said = {turn: read_emission(tokens).said for turn, tokens in enumerate(self.tokens)}
        return {turn: words for turn, words in said.items() if words}

    @property
    def words(self) -> Words:
        return tuple(word for words in self.said.values() for word in words)

    @property
    def told(self) -> dict[str, Words]:
        """What was said of each result."""
        told: dict[str, Words] = {}
        for passage in self.passages:
            if passage.result is not None:
                name = passage.result.woven.item_id
                told[name] = told.get(name, ()) + tuple(word for word, _ in passage.words)
        return told


def play(
    wanted: Mapping[int, Sequence[int]],
    results: Mapping[int, Sequence[str]],
    turns: int = 40,
    typed: Mapping[int, Words] | None = None,
) -> Played:
    played = Played(wanted, results, typed or {})
    for _ in range(turns):
        played.step()
    return played


def as_trained(words: Words, turn: int) -> dict[int, Words]:
    """When training says the words of a result from a micro-turn on."""
    stage = Stage("any", "train", 0, Cast(EstimatedVoices(), word_ms))
    stage.now_ms = 200 * turn
    stage.say(words, turn)
    targets = stage.finish().targets
    return {n: read_emission(tokens).said for n, tokens in enumerate(targets) if read_emission(tokens).said}


@pytest.mark.parametrize(
    "wanted",
    [
        {5: say("it")},
        {5: say("the", "weather", "is", "sunny")},
        {5: say("no"), 6: say("cold"), 8: say("sunny"), 9: hear("yes"), 10: say("one", "two", "three")},
    ],
)
def test_the_words_are_those_of_the_result_at_the_times_of_training(
    wanted: Mapping[int, Sequence[int]],
) -> None:
    played = play(wanted, {3: [WEATHER]})
    assert played.said == as_trained(FOUND, 5)
    assert played.told == {WEATHER: FOUND}
    assert [passage.opens for passage in played.passages].index(True) == 5
    assert sum(passage.closes for passage in played.passages) == 1
    assert not played.script.results


def test_nothing_is_said_of_a_result_unless_the_network_begins() -> None:
    played = play({4: hear("hello")}, {3: [WEATHER]})
    assert not played.words
    assert [turn for turn, taken in enumerate(played.taken) if taken.gives_up] == [3 + BEGIN_WITHIN]
    assert not played.script.results


def test_what_the_network_hears_and_hands_over_beside_a_result_is_kept() -> None:
    task = [int(Token.DELEGATE), *hear("news"), int(Token.END_DELEGATE)]
    beside = [*hear("and"), int(Token.CANCEL), *task]
    played = play({5: say("it"), 7: [*beside, *say("sunny")]}, {3: [WEATHER]})
    assert played.said == as_trained(FOUND, 5)
    assert played.tokens[7][: len(beside)] == tuple(beside)
    emission = read_emission(played.tokens[7])
    assert (emission.heard, emission.cancels, emission.tasks) == (("and",), True, (("news",),))


@pytest.mark.parametrize("gap", range(TURN_GAP))
def test_while_the_user_is_owed_an_answer_another_word_is_the_answer(gap: int) -> None:
    asked = hear("where", "is", "it")
    begin = {6: asked, 6 + gap: say("in")} if gap else {6: [*asked, *say("in")]}
    played = play({**begin, 7 + gap: say("here")}, {3: [WEATHER]}, 8 + gap)
    assert played.words == ("in", "here")
    later = play({**begin, 7 + gap: say("here"), 12 + gap: say("sunny")}, {3: [WEATHER]})
    assert later.words == ("in", "here", *FOUND)


def test_an_answer_to_a_typed_line_is_one_too() -> None:
    played = play({4: say("red")}, {3: [WEATHER]}, 5, typed={3: ("what", "colour")})
    assert played.words == ("red",)


def test_the_first_word_of_a_result_means_it_even_behind_a_statement() -> None:
    played = play({5: hear("i", "was"), 6: [*hear("here"), *say("it")]}, {3: [WEATHER]})
    assert played.said == as_trained(FOUND, 6)


def test_when_nothing_was_heard_for_a_second_any_word_means_the_result() -> None:
    played = play({5: hear("hello"), 5 + TURN_GAP: say("sunny")}, {3: [WEATHER]})
    assert played.words == FOUND


def test_a_reply_goes_on_and_the_result_is_said_after_a_pause() -> None:
    reply = {4: [*hear("check"), *say("i'll")], 5: say("check"), 6: say("it")}
    played = play({**reply, 10: say("sunny")}, {5: [WEATHER]})
    assert [played.said[turn] for turn in (4, 5, 6)] == [("i'll",), ("check",), ("it",)]
    assert played.words == ("i'll", "check", "it", *FOUND)
    assert {turn: words for turn, words in played.said.items() if turn >= 10} == as_trained(FOUND, 10)


def test_a_result_a_micro_turn_early_is_told_from_a_reply_by_its_first_word() -> None:
    # "red" lasts 225 ms: it is over within micro-turn 5.
    for word, wanted in (("it", FOUND), ("sunny", ("sunny",))):
        played = play({4: [*hear("yes"), *say("red")], 6: say(word)}, {5: [WEATHER]}, 25)
        assert played.words == ("red", *wanted)


def test_nothing_is_added_to_a_result_until_the_network_was_silent() -> None:
    garbage = {turn: say("and", "sunny") for turn in range(5, 30)}
    played = play({**garbage, 33: say("hello")}, {3: [WEATHER]})
    assert played.words == (*FOUND, "hello")
    assert played.said[33] == ("hello",)


def test_what_the_user_asks_during_a_result_is_answered_behind_it() -> None:
    last = max(as_trained(FOUND, 5))
    played = play({5: say("it"), 6: hear("and", "today"), last + 1: say("red")}, {3: [WEATHER]})
    assert played.words == (*FOUND, "red")


def test_a_hush_gives_the_rest_back_and_what_follows_is_the_networks_own() -> None:
    played = play({5: say("it"), 8: [*hear("stop"), HUSH, *say("okay")]}, {3: [WEATHER, "red"]}, 9)
    begun = as_trained(FOUND, 5)
    assert played.words == (*begun[5], *begun.get(6, ()), *begun.get(7, ()), "okay")
    # What waited is given back too: it is handed in again by whoever is told to stop.
    assert not played.script.results


def test_a_result_that_comes_with_a_hush_stays() -> None:
    played = play({5: say("it"), 7: [HUSH], 9: say("no")}, {3: [WEATHER], 7: ["red cup"]})
    assert played.told["red cup"] == ("red", "cup")
    assert played.words[-2:] == ("red", "cup")


def test_two_results_are_said_one_after_the_other_and_a_first_word_chooses() -> None:
    results = {3: ["red cup", "two seconds"]}
    for first, order in (("no", ("red cup", "two seconds")), ("two", ("two seconds", "red cup"))):
        played = play({5: say(first), **{turn: say("no") for turn in range(6, 20)}}, results)
        assert played.words == tuple(" ".join(order).split())
        begins = [turn for turn, passage in enumerate(played.passages) if passage.opens]
        ends = as_trained(tuple(order[0].split()), 5)
        # The mouth has rested for a whole micro-turn before the second one.
        assert begins[1] > max(ends) + 2


def test_results_with_the_same_words_are_two() -> None:
    played = play({turn: say("no") for turn in range(5, 30)}, {3: ["red", "red"]})
    assert played.words == ("red", "red")
    assert sum(passage.closes for passage in played.passages) == 2


def test_a_network_that_never_stops_talking_says_the_result_in_the_end() -> None:
    chatter = {turn: [*hear("yes"), *say("no")] for turn in range(140)}
    played = play(chatter, {3: [WEATHER]}, 140)
    begin = next(turn for turn, passage in enumerate(played.passages) if passage.opens)
    assert begin == pytest.approx(3 + LONGEST_REPLY, abs=50)
    assert played.told == {WEATHER: FOUND}


def test_at_most_eight_tokens_are_emitted_and_no_word_is_lost() -> None:
    heard = {turn: hear(*["yes"] * count) for turn, count in ((6, 7), (7, 6), (8, 8))}
    played = play({5: say("a"), **heard}, {3: ["a a a a a a a a"]}, 20)
    assert [len(tokens) for tokens in played.tokens[6:9]] == [MAX_OUTPUT_TOKENS] * 3
    assert played.told == {"a a a a a a a a": tuple("a" * 8)}


@pytest.mark.parametrize("seed", range(12))
def test_no_garbage_gets_into_a_result(seed: int) -> None:
    rng = np.random.default_rng(seed)
    allowed = np.flatnonzero(output_mask())
    said = [token for token in allowed if token >= min(say("zero"))]
    wanted = {
        turn: rng.choice(said if rng.random() < 0.5 else allowed, rng.integers(0, 4)).tolist()
        + [HUSH] * bool(rng.random() < 0.01)
        for turn in range(600)
    }
    results = {turn: [WEATHER, "red cup"][: rng.integers(1, 3)] for turn in range(5, 560, 60)}
    played = play(wanted, results, 600)
    texts: list[Words] = []
    for turn, passage in enumerate(played.passages):
        words = tuple(word for word, _ in passage.words)
        assert read_emission(played.tokens[turn]).said == words or not words
        if passage.opens:
            texts.append(())
        if words:
            texts[-1] += words
    whole = [tuple(WEATHER.split()), ("red", "cup")]
    assert all(any(text == each[: len(text)] for each in whole) for text in texts)
    assert whole[0] in texts
