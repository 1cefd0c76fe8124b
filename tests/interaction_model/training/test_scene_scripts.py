"""Results in scenes: who does what training asks is left as they are, and who garbles results says them rightly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from microturn.interaction_model.native.emission import read_emission
from microturn.interaction_model.native.grammar import Inputs
from microturn.interaction_model.native.script import Cue, Passage, Script
from microturn.interaction_model.native.user_turn import TURN_GAP
from microturn.interaction_model.native.vocabulary import WORDS, Token, said_token
from microturn.interaction_model.training.cast import estimated_cast, estimated_word_ms
from microturn.interaction_model.training.mixing import TASKS, Mixture
from microturn.interaction_model.training.scene import Scene
from microturn.protocols import WovenText

pytestmark = pytest.mark.unit

Outputs = Sequence[Sequence[int]]


def lived(scene: Scene, wishes: Outputs) -> Outputs:
    """What comes of what a network would emit."""
    script, outputs = Script(), []
    for turn, wish in enumerate(wishes):
        given = scene.arrivals.get(turn, Inputs())
        woven = [WovenText(f"{turn}-{n}", " ".join(words)) for n, words in enumerate(given.background)]
        script = script.given(woven, given.text, turn)
        tokens, passage = _answer(Cue(script, turn, estimated_word_ms), wish)
        script = script.after(turn, read_emission(tokens), passage, estimated_word_ms).script
        outputs.append(tokens)
    return tuple(outputs)


def _answer(cue: Cue, wish: Sequence[int]) -> tuple[tuple[int, ...], Passage]:
    for count, token in enumerate((*wish, int(Token.END))):
        passage = cue.decide(wish[:count], token)
        if passage is not None:
            return (*wish[:count], *passage.tokens), passage
    raise AssertionError("END is never taken")


def garbled(scene: Scene, first: int, seed: int) -> Outputs:
    """The targets, with any words in place of those of the result, which is said from a micro-turn on."""
    rng = np.random.default_rng(seed)

    def other(token: int) -> int:
        return said_token(WORDS[rng.integers(len(WORDS))]) if token >= said_token(WORDS[0]) else token

    return [
        [other(token) for token in tokens] if turn >= first else tokens
        for turn, tokens in enumerate(scene.targets)
    ]


def begin_of_result(scene: Scene) -> int:
    """The micro-turn in which the result's first word is said; it is the last thing that is said in these scenes."""
    (words,) = (words for given in scene.arrivals.values() for words in given.background)
    said = [turn for turn, tokens in enumerate(scene.targets) for _ in read_emission(tokens).said]
    return said[-len(words)]


def is_in_a_pause(scene: Scene, turn: int) -> bool:
    """Whether the user said nothing for a while before it, so that they are owed no answer."""
    before = scene.targets[max(0, turn - TURN_GAP) : turn + 1]
    return not any(read_emission(tokens).heard for tokens in before)


@pytest.mark.parametrize("task", TASKS)
def test_a_network_that_does_what_training_asks_does_just_that(task: str) -> None:
    mixture = Mixture(estimated_cast(), "train")
    for seed in range(25 if "errand" in task else 3):
        scene = mixture.scene_of(task, seed)
        assert lived(scene, scene.targets) == scene.targets


@pytest.mark.parametrize("task", ["errand", "corrected_errand"])
def test_garbled_results_are_said_rightly_at_the_same_time(task: str) -> None:
    mixture = Mixture(estimated_cast(), "train")
    count = 0
    for seed in range(40):
        scene = mixture.scene_of(task, seed)
        begin = begin_of_result(scene)
        if is_in_a_pause(scene, begin):
            count += 1
            wishes = garbled(scene, begin, seed)
            assert wishes != list(scene.targets) and lived(scene, wishes) == scene.targets
    assert count >= 15
