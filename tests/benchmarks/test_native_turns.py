"""What the benchmark of the native model times is what it says: the scripts are emitted, the past is as long, and
work that is not done is noticed."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="the small models of the tests stand beside those of transformers")

import native_turns
import torch
from native_determinism import DisagreementError, Pair
from native_figures import Rows, Spans
from native_growth import CONTEXTS, slopes
from native_stage import FIRST_TURN, SAID, ScriptedEmitter, Stage, given, pretend_past, scribble
from native_turns import Case, Kind, WrongWorkError, play

from microturn.interaction_model.native.network import Network
from microturn.interaction_model.native.state_window import StateWindow
from tests.interaction_model.native.small_models import opened, small_model, small_network
from tests.interaction_model.native.small_networks import random_embeddings

pytestmark = pytest.mark.unit

WINDOW = StateWindow(sessions=2, tokens=96, sinks=5, rewind_tokens=64, page_tokens=16)
TURNS = range(FIRST_TURN, FIRST_TURN + 2)


@pytest.fixture
def stage() -> Stage:
    model = small_model(window=WINDOW)
    model._emitter = emitter = ScriptedEmitter(model.decoder)
    return Stage(model, emitter)


def kind(*, positions: int, sounds: bool, script: tuple[int, ...]) -> Kind:
    return Kind("a kind", tuple(map(given, TURNS)), (script, script), positions, sounds)


def test_a_script_is_what_a_session_grows_by_and_its_words_sound(stage: Stage) -> None:
    session = opened(stage.model)
    case = Case("one", kind(positions=7, sounds=True, script=SAID[:2]), (session,), Spans())
    play(stage, [case], rounds=3)
    assert len(case.spans.wall_ms) == len(case.spans.cpu_ms) == 6
    # One further after each of four bursts.
    assert session.state.length == 4


@pytest.mark.parametrize(("positions", "sounds"), [(6, False), (5, True)])
def test_a_case_that_did_other_work_has_no_time(stage: Stage, positions: int, sounds: bool) -> None:
    case = Case("one", kind(positions=positions, sounds=sounds, script=()), (opened(stage.model),), Spans())
    with pytest.raises(WrongWorkError, match="one: expected"):
        play(stage, [case], rounds=1)


def test_all_sessions_of_a_case_do_the_work(stage: Stage) -> None:
    sessions = (opened(stage.model, "one"), opened(stage.model, "two"))
    case = Case("two", kind(positions=6, sounds=True, script=SAID[:1]), sessions, Spans())
    play(stage, [case], rounds=1)
    assert [session.state.length for session in sessions] == [2, 2]


def test_a_pretended_past_is_as_long_as_it_says_and_is_read(stage: Stage) -> None:
    decoder = stage.model.decoder
    session = opened(stage.model)
    pretend_past(decoder, session.state, 90)
    assert session.state.length == 90
    probe = [random_embeddings(1, 48)]
    here = session.state.snapshot()
    with_zeros = decoder.advance([session.state], probe)[0]
    session.state.rewind(here)
    scribble(decoder)
    assert not torch.equal(decoder.advance([session.state], probe)[0], with_zeros)


def test_every_kind_that_is_listed_has_an_input_for_each_script() -> None:
    found = native_turns.kinds()
    assert all(len(each.inputs) == len(each.scripts) for each in found.values())
    assert all((len(each.inputs) - 1) * each.positions < 256 for each in found.values())


def test_slopes_are_those_of_the_columns() -> None:
    rows: Rows = {
        str(context): {"step_ms": 3.0 + 0.002 * context, "cache_mb": context / 500} for context in CONTEXTS
    }
    found = slopes(rows)
    assert found["per 1,000 tokens"] == {"step_ms": 2.0, "cache_mb": 2.0}
    assert found["the same, the longest three"] == {"step_ms": 2.0, "cache_mb": 2.0}


@pytest.fixture
def network() -> Network:
    return small_network()


def test_decoders_are_compared_on_the_same_past(network: Network) -> None:
    pair = Pair.of(network, 60)
    assert 0 < pair.difference < 1e-4
    variants = pair.variants(random_embeddings(5, 48))
    lengths = []
    for variant in variants.values():
        variant.call()
        lengths.append((pair.state.length, pair.library.length))
        variant.undo()
    assert lengths == [(65, 60), (61, 65), (61, 65)]
    assert (pair.state.length, pair.library.length) == (61, 60)


def test_decoders_that_disagree_are_not_compared(network: Network) -> None:
    pair = Pair.of(network, 20)
    for wrong in (1.0, float("nan")):
        with pytest.raises(DisagreementError, match="hidden states differ"):
            replace(pair, difference=wrong).check(torch.float32)
