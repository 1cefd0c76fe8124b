"""Sessions of the native model can be gone back in, forked, and kept apart."""

from __future__ import annotations

import pytest
import torch

from microturn.interaction_model.native import ClosedSessionError
from microturn.interaction_model.native.model import NativeModel
from microturn.kernels import LostTokensError
from microturn.protocols import MicroTurnInput
from tests.interaction_model.native.small_models import (
    assert_same,
    heard,
    hidden_now,
    opened,
    run,
    small_model,
    sound,
)

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> NativeModel:
    return small_model("sparse", temperature=1.0)


@pytest.fixture(autouse=True)
def no_session_is_left(model: NativeModel) -> None:
    model.close()


def test_after_a_rewind_the_same_inputs_give_the_same_bits(model: NativeModel) -> None:
    session = opened(model)
    run(model, session, range(2))
    kept = session.snapshot()
    first = run(model, session, range(2, 5))
    assert any(output.audio.size or output.transcripts for output in first)
    for _ in range(2):
        session.rewind(kept)
        assert_same(run(model, session, range(2, 5)), first)


def test_after_a_rewind_other_inputs_go_another_way_and_leave_no_trace(model: NativeModel) -> None:
    session, never = opened(model, "rewound"), opened(model, "never rewound")
    run(model, session, range(2))
    kept = session.snapshot()
    run(model, session, range(2, 5), seed=3)
    session.rewind(kept)
    assert_same(run(model, session, range(2, 5)), run(model, never, range(5))[2:])
    assert torch.equal(hidden_now(model, session), hidden_now(model, never))


def test_a_rewind_too_far_back_changes_nothing(model: NativeModel) -> None:
    session = opened(model)
    kept = session.snapshot()
    model.step([(session, MicroTurnInput(39, sound(0, 40)))])
    place, length = session.place, session.state.length
    with pytest.raises(LostTokensError):
        session.rewind(kept)
    assert session.place is place
    assert session.state.length == length


def test_what_is_no_snapshot_is_refused(model: NativeModel) -> None:
    with pytest.raises(TypeError, match="'str'"):
        opened(model).rewind("yesterday")


def test_a_fork_goes_on_as_the_session_would_have(model: NativeModel) -> None:
    session = opened(model)
    run(model, session, range(2))
    twin = model.fork(session, "twin")
    assert twin.session_id == "twin"
    other = run(model, twin, range(2, 5), seed=4)
    found = run(model, session, range(2, 5))
    alone, again = opened(model, "alone"), opened(model, "again")
    assert_same(run(model, alone, range(5))[2:], found)
    run(model, again, range(2))
    assert_same(run(model, again, range(2, 5), seed=4), other)


def test_a_fork_outlives_its_session(model: NativeModel) -> None:
    before = model.decoder.cache.free_pages()
    session, whole = opened(model), opened(model, "whole")
    run(model, session, range(2))
    twin = model.fork(session, "twin")
    session.close()
    assert_same(run(model, twin, range(2, 4)), run(model, whole, range(4))[2:])
    twin.close()
    whole.close()
    assert model.decoder.cache.free_pages() == before
    with pytest.raises(ClosedSessionError):
        model.fork(session, "too late")


def test_a_snapshot_is_not_changed_by_what_follows(model: NativeModel) -> None:
    session = opened(model)
    run(model, session, range(3))
    kept = session.snapshot()
    before = repr(kept.place.mouth), kept.tokens.length, kept.place.line.renderer._block
    run(model, session, range(3, 5))
    assert (repr(kept.place.mouth), kept.tokens.length, kept.place.line.renderer._block) == before


def test_sessions_of_one_model_keep_apart(model: NativeModel) -> None:
    one, other = opened(model, "one"), opened(model, "other")
    found = [model.step([(one, heard(0, 1))])[0]]
    run(model, other, range(3), seed=2)
    found += run(model, one, range(1, 3), seed=1)
    alone = opened(model, "alone")
    assert_same(run(model, alone, range(3), seed=1), found)
