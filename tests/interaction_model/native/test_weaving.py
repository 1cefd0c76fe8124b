"""Results in the native model: said in their own words, broken off, given back, and the same bits in any company."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.session import NativeSession
from microturn.interaction_model.native.vocabulary import Token, WordKind, token_range
from microturn.protocols import INPUT_SAMPLES, MicroTurnInput, MicroTurnOutput, WovenText
from tests.interaction_model.native.small_models import (
    ScriptedEmitter,
    assert_same,
    hear,
    opened,
    say,
    scripted,
    small_model,
    small_mouth,
    sound,
)

pytestmark = pytest.mark.unit

QUIET = np.zeros(INPUT_SAMPLES, np.float32)
HUSH = int(Token.HUSH)
WEATHER = "It is 21 degrees in London."


def handed(turn: int, *texts: str) -> dict[int, MicroTurnInput]:
    """A step that hands results in."""
    return {turn: MicroTurnInput(turn, QUIET, woven=tuple(WovenText(text, text) for text in texts))}


def utterances(outputs: Sequence[MicroTurnOutput]) -> list[tuple[str, str]]:
    return [(each.text, each.source) for output in outputs for each in output.utterances]


def ended(outputs: Sequence[MicroTurnOutput], name: str = "utterance-0") -> list[tuple[int, bool]]:
    """Words of an utterance whose sound has ended, and whether they were its last."""
    words = [word for output in outputs for word in output.words if word.utterance_id == name]
    return [(word.index, word.last) for word in words]


@pytest.mark.parametrize(
    "wanted",
    [
        {2: say("it", "is"), 4: say("twenty"), 5: say("one"), 6: say("degrees")},
        {2: say("the", "weather", "is", "sunny")},
        {turn: say("no") for turn in range(2, 14)},
    ],
)
def test_a_result_is_one_utterance_with_its_own_words_whatever_the_network_would_say(
    wanted: Mapping[int, Sequence[int]],
) -> None:
    outputs = scripted(wanted, handed(1, WEATHER), 40)
    assert utterances(outputs)[0] == (WEATHER, "woven")
    assert outputs[2].utterances[0].item_id == WEATHER
    assert ended(outputs) == [(0, False), (1, False), (2, False), (3, False), (4, False), (5, True)]
    assert all(output.playout == "play" for output in outputs)


def test_its_words_become_sound_in_the_micro_turns_in_which_training_says_them() -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {2: say("no")})
    session = opened(model)
    words = ("it", "is", "twenty", "one", "degrees", "in", "london")
    begins = [frame // 16 for frame in small_mouth().begins(words)[:-1]]
    lengths = [0]
    for turn in range(25):
        model.step([(session, handed(1, WEATHER).get(turn, MicroTurnInput(turn, QUIET)))])
        lengths.append(session.state.length)
    read = len(words) + 2
    wanted = [5 + begins.count(turn - 2) + read * (turn == 1) for turn in range(25)]
    assert np.diff(lengths).tolist() == wanted


def test_a_result_of_several_parts_is_said_by_the_clauses_that_it_has_words_for() -> None:
    text = "In the sample data, it is 14 degrees in London, with light drizzle."
    outputs = scripted({2: say("no")}, handed(1, text), 40)
    assert utterances(outputs) == [(text, "woven")]
    assert ended(outputs)[-1] == (len(text.split()) - 1, True)


def test_words_while_the_user_waits_for_an_answer_are_a_reply() -> None:
    wanted = {1: hear("where", "is", "it"), 2: say("here"), 12: say("sunny")}
    outputs = scripted(wanted, handed(1, "red cup"), 30)
    assert utterances(outputs) == [("here", "reply"), ("red cup", "woven")]
    assert ended(outputs, "utterance-1") == [(0, False), (1, True)]


def test_a_hush_breaks_a_result_off_and_its_rest_can_be_handed_in_again() -> None:
    rest = "in london"
    outputs = scripted(
        {2: say("no"), 4: [*hear("wait"), HUSH], 14: say("no")},
        {**handed(1, WEATHER, "red cup"), **handed(12, rest)},
        40,
    )
    assert [turn for turn, output in enumerate(outputs) if output.playout == "stop"] == [4]
    assert utterances(outputs) == [(WEATHER, "woven"), (rest, "woven")]
    said = ended(outputs)
    assert said == [(n, False) for n in range(len(said))] and len(said) < 6
    assert ended(outputs, "utterance-1") == [(0, False), (1, True)]


def test_two_results_are_two_utterances() -> None:
    wanted = {turn: say("no") for turn in range(1, 12)}
    outputs = scripted(wanted, handed(0, "rain today", "snow today"), 30)
    assert utterances(outputs)[:2] == [("rain today", "woven"), ("snow today", "woven")]
    for name in ("utterance-0", "utterance-1"):
        assert ended(outputs, name) == [(0, False), (1, True)]


def talkative(temperature: float = 0.0) -> NativeModel:
    """A model with random weights that hears nothing, and says something wherever it may."""
    model = small_model("sparse", temperature=temperature)
    model._emitter._forbidden[[*token_range(WordKind.HEARD), HUSH]] = True
    return model


def fed(turn: int, seed: int) -> MicroTurnInput:
    """Sound, and a result every eight micro-turns."""
    text = ("it is 14 degrees", "red cup", "snow today")[seed]
    woven = (WovenText(f"item-{turn}", text),) if turn % 8 == 0 else ()
    return MicroTurnInput(turn, sound(1000 * seed + turn), woven=woven)


def lived(
    model: NativeModel, session: NativeSession, turns: Sequence[int], seed: int
) -> list[MicroTurnOutput]:
    return [model.step([(session, fed(turn, seed))])[0] for turn in turns]


def woven(outputs: Sequence[MicroTurnOutput]) -> int:
    return sum(source == "woven" for _, source in utterances(outputs))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_results_are_said_with_the_same_bits_alone_in_company_and_after_a_rewind(temperature: float) -> None:
    model = talkative(temperature)
    turns = range(11)
    alone = {seed: lived(model, opened(model, f"{seed}", seed), turns, seed) for seed in range(2)}
    assert sum(map(woven, alone.values())) >= 2
    model.close()

    sessions = [opened(model, f"{seed}", seed) for seed in range(2)]
    together: list[list[MicroTurnOutput]] = [[] for _ in sessions]
    for turn in turns:
        due = [(session, fed(turn, seed)) for seed, session in enumerate(sessions)]
        for own, output in zip(together, model.step(due), strict=True):
            own.append(output)
    for seed, own in enumerate(together):
        assert_same(own, alone[seed])

    session = opened(model, "rewound", 1)
    lived(model, session, turns[:1], 1)
    kept, twin = session.snapshot(), model.fork(session, "twin")
    assert kept.place.script.begun is not None
    lived(model, session, range(1, 4), 2)
    session.rewind(kept)
    for each in (session, twin):
        assert_same(lived(model, each, turns[1:], 1), alone[1][1:])


def test_what_is_said_of_a_result_is_appended_as_one_token_after_the_other_would_be() -> None:
    model = talkative()
    session = opened(model)
    woven = (WovenText("item", "a a a a"),)
    model.step([(session, MicroTurnInput(0, QUIET, woven=woven))])
    passage = session.place.script.results
    plain = small_model("sparse")
    plain._emitter = ScriptedEmitter(plain, {})
    other = opened(plain)
    plain.step([(other, MicroTurnInput(0, QUIET, woven=woven))])
    said = 4 - len(passage[0].left) if passage else 4
    assert said >= 2 and session.state.length == other.state.length + said
    for token in say(*"a" * said):
        plain.decoder.advance([other.state], [plain.decoder.embed(torch.tensor([token]))])
    probes = [each.decoder.embed(torch.tensor([9])) for each in (model, plain)]
    found = [
        each.decoder.advance([state], [probe])[0]
        for each, state, probe in zip((model, plain), (session.state, other.state), probes, strict=True)
    ]
    assert torch.equal(found[0], found[1])


def test_a_late_step_goes_on_with_a_result() -> None:
    model = small_model()
    model._emitter = ScriptedEmitter(model, {2: say("no")})
    session = opened(model)
    given = [
        MicroTurnInput(0, QUIET),
        handed(1, WEATHER)[1],
        MicroTurnInput(2, QUIET),
        MicroTurnInput(4, np.concatenate([QUIET, QUIET])),
        *(MicroTurnInput(turn, QUIET) for turn in range(5, 30)),
    ]
    outputs = [model.step([(session, each)])[0] for each in given]
    assert utterances(outputs) == [(WEATHER, "woven")]
    assert ended(outputs)[-1] == (5, True)
