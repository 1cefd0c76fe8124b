"""The native model behind its interface: the same bits alone and in company, and memory that stays flat."""

from __future__ import annotations

import os

import pytest
import torch

from microturn.interaction_model import InteractionModel
from microturn.interaction_model.native import (
    BadConfigError,
    ClosedSessionError,
    TooManySessionsError,
)
from microturn.interaction_model.native import model as model_module
from microturn.interaction_model.native.model import NativeModel
from microturn.interaction_model.native.state_window import StateWindow
from microturn.protocols import (
    MicroTurnInput,
    MicroTurnOutput,
)
from tests.interaction_model.native.small_models import (
    SMALL_WINDOW,
    ScriptedEmitter,
    assert_same,
    hear,
    heard,
    opened,
    picture,
    run,
    small_model,
    sound,
)
from tests.interaction_model.native.small_networks import Name

pytestmark = pytest.mark.unit

TURNS = range(5)


@pytest.fixture(scope="module")
def model() -> NativeModel:
    return small_model()


@pytest.fixture(autouse=True)
def no_session_is_left(request: pytest.FixtureRequest) -> None:
    if "model" in request.fixturenames:
        request.getfixturevalue("model").close()


def test_it_is_an_interaction_model(model: NativeModel) -> None:
    served: InteractionModel = model
    served.settle()
    assert set(served.fingerprint) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")
    assert served.step([]) == []


@pytest.mark.parametrize(
    "name, dtype, temperature",
    [("dense", torch.float32, 0.0), ("sparse", torch.bfloat16, 1.0)],
)
def test_a_session_gives_the_same_bits_alone_and_in_company(
    name: Name, dtype: torch.dtype, temperature: float
) -> None:
    model = small_model(name, dtype, temperature=temperature)
    alone = {seed: run(model, opened(model, seed=seed), TURNS, seed) for seed in range(5)}
    model.close()
    assert any(output.audio.size for outputs in alone.values() for output in outputs)
    for company in (2, 5):
        sessions = [opened(model, f"{seed}", seed) for seed in range(company)]
        together: list[list[MicroTurnOutput]] = [[] for _ in sessions]
        for turn in TURNS:
            due = [(session, heard(turn, seed)) for seed, session in enumerate(sessions)]
            order = due if turn % 2 else due[::-1]
            outputs = model.step(order)
            for row, output in enumerate(outputs if turn % 2 else outputs[::-1]):
                together[row].append(output)
        for seed in range(company):
            assert_same(together[seed], alone[seed])
        model.close()


def test_a_session_that_is_replayed_gives_the_same_bits(model: NativeModel) -> None:
    first = run(model, opened(model, "first"), TURNS)
    other = small_model()
    assert other.fingerprint == model.fingerprint
    assert_same(run(other, opened(other, "again"), TURNS), first)


def test_no_bit_depends_on_the_number_of_threads(model: NativeModel) -> None:
    before = torch.get_num_threads()
    wide = small_model(threads=3)
    assert_same(run(wide, opened(wide), TURNS), run(model, opened(model), TURNS))
    assert torch.get_num_threads() == before


def test_no_bit_depends_on_how_many_tokens_are_computed_at_once(
    model: NativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [MicroTurnInput(9, sound(1, 10), (picture(1),), ("hello there",)), heard(10)]
    whole = opened(model, "whole")
    wanted = [model.step([(whole, each)])[0] for each in given]
    for tokens in (1, 7):
        monkeypatch.setattr(model_module, "STEP_TOKENS", tokens)
        session = opened(model, f"{tokens}")
        assert_same([model.step([(session, each)])[0] for each in given], wanted)


def test_the_seed_decides_what_is_drawn() -> None:
    model = small_model(temperature=1.0)
    first, again, other = (run(model, opened(model, f"{n}", seed), TURNS) for n, seed in enumerate((1, 1, 2)))
    assert_same(first, again)
    assert [output.transcripts for output in first] != [output.transcripts for output in other]


@pytest.mark.parametrize("seed", [-1, 2**64 + 5])
def test_any_whole_number_is_a_seed(seed: int) -> None:
    model = small_model(temperature=1.0)
    assert len(run(model, opened(model, seed=seed), range(3))) == 3


def test_fingerprints_differ_where_answers_may(model: NativeModel) -> None:
    others = [
        small_model("sparse"),
        small_model(temperature=0.5),
        small_model(window=StateWindow(sessions=6, tokens=97, sinks=5, rewind_tokens=64, page_tokens=16)),
    ]
    assert len({model.fingerprint, *(other.fingerprint for other in others)}) == 4


IS_LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
LONG_TURNS, STEP_TURNS, LONG_PAGE = (180_000, 50, 512) if IS_LONG else (400, 10, 16)
"""Ten hours; or a minute and a half, which fill a smaller window many times."""


@pytest.mark.timeout(1200 if IS_LONG else 20)
def test_memory_stays_flat_for_ten_hours() -> None:
    window = StateWindow(
        sessions=1, tokens=4 * LONG_PAGE, sinks=4, rewind_tokens=2 * LONG_PAGE, page_tokens=LONG_PAGE
    )
    model = small_model(window=window)
    model._emitter = ScriptedEmitter(model, {n: hear("yes") for n in range(0, LONG_TURNS, 3)})
    session = opened(model)
    free: list[int] = []
    for last in range(STEP_TURNS - 1, LONG_TURNS, STEP_TURNS):
        model.step([(session, MicroTurnInput(last, sound(last % 50, STEP_TURNS)))])
        free.append(model.decoder.cache.free_pages()["global"])
    third = len(free) // 3
    assert min(free[third : 2 * third]) == min(free[2 * third :])
    assert max(free[third:]) < max(free)
    assert session.state.length > 5 * LONG_TURNS


def test_a_window_sets_enough_pages_aside_for_the_longest_step() -> None:
    window = StateWindow(sessions=2, tokens=40, sinks=17, rewind_tokens=50, page_tokens=16)
    model = small_model(window=window)
    sessions = [opened(model, f"{n}") for n in range(2)]
    for last in (99, 199, 299):
        model.step([(session, MicroTurnInput(last, sound(last, 100))) for session in sessions])
    assert all(session.state.length >= 1500 for session in sessions)


def test_a_closed_session_gives_its_pages_back(model: NativeModel) -> None:
    before = model.decoder.cache.free_pages()
    session = opened(model)
    run(model, session, TURNS)
    assert model.decoder.cache.free_pages() != before
    session.close()
    session.close()
    assert model.decoder.cache.free_pages() == before
    with pytest.raises(ClosedSessionError, match="open a new one"):
        model.step([(session, heard(0))])


def test_no_more_sessions_are_opened_than_there_is_memory_for(model: NativeModel) -> None:
    sessions = [opened(model, f"{n}") for n in range(SMALL_WINDOW.sessions)]
    with pytest.raises(TooManySessionsError, match="beside the 6"):
        opened(model, "one more")
    with pytest.raises(TooManySessionsError):
        model.fork(sessions[0], "a twin")
    sessions[0].close()
    opened(model, "now")


def test_windows_that_make_no_sense_are_named() -> None:
    with pytest.raises(BadConfigError, match="sessions"):
        StateWindow(sessions=0)
    with pytest.raises(BadConfigError, match="tokens"):
        StateWindow(tokens=0)
