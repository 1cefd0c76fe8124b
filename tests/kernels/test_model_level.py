"""A whole decoder: no position's bits depend on chunks, on other sessions, on interrupted turns or on threads.

A short form runs by default; `MICROTURN_LONG_TESTS=1` tries every chunk with every dtype and many more schedules.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from microturn.kernels.evidence import same_bits
from microturn.kernels.spec import CPU_SPLIT
from tests.kernels.small_model import VOCABULARY, Native, Session, SmallModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = os.environ.get("MICROTURN_LONG_TESTS") == "1"
POSITIONS = 201
CHUNKS = (1, 2, 5, 7, 30, 50)
DTYPES = (torch.float32, torch.bfloat16)
SHORT_CASES = [(torch.float32, 5), (torch.float32, 30), (torch.bfloat16, 7), (torch.bfloat16, 50)]
CASES = [(dtype, chunk) for dtype in DTYPES for chunk in CHUNKS] if LONG else SHORT_CASES


def ids(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(VOCABULARY), k=count)


def at_once(model: SmallModel, tokens: Sequence[int]) -> Tensor:
    return model.step([(model.open(), tokens)])[0]


def in_chunks(model: SmallModel, tokens: Sequence[int], size: int) -> Tensor:
    session = model.open()
    return torch.cat(
        [model.step([(session, tokens[begin : begin + size])])[0] for begin in range(0, len(tokens), size)]
    )


def differing(found: Tensor, wanted: Tensor) -> list[int]:
    """Positions whose logits have other bits."""
    assert found.shape == wanted.shape
    return [index for index in range(len(found)) if not same_bits(found[index], wanted[index])]


@pytest.mark.parametrize(("dtype", "chunk"), CASES)
def test_chunks_give_the_bits_of_one_call(dtype: torch.dtype, chunk: int) -> None:
    model, tokens = SmallModel(dtype), ids(POSITIONS)
    assert differing(in_chunks(model, tokens, chunk), at_once(model, tokens)) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_model_of_pytorchs_operators_differs(dtype: torch.dtype) -> None:
    """The negative control: without ours the tests above would find differences at many positions."""
    model, tokens = SmallModel(dtype, Native()), ids(POSITIONS)
    wanted = at_once(model, tokens)
    assert len(differing(in_chunks(model, tokens, 7), wanted)) > POSITIONS // 4
    ours = at_once(SmallModel(dtype), tokens)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(ours, wanted, rtol=tolerance, atol=tolerance)


def test_a_context_of_several_splits_gives_the_same_bits() -> None:
    model, tokens = SmallModel(torch.float32), ids(CPU_SPLIT.keys + 40)
    session = model.open()
    sizes = [CPU_SPLIT.keys - 20, 7, 7, 7, 7, 1, 31]
    found, begin = [], 0
    for size in sizes:
        found.append(model.step([(session, tokens[begin : begin + size])])[0])
        begin += size
    assert begin == len(tokens)
    assert differing(torch.cat(found), at_once(model, tokens)) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_sessions_leave_no_trace(dtype: torch.dtype) -> None:
    """From none to five others, joining with other numbers of tokens and in another order at every step."""
    model, draw, tokens = SmallModel(dtype), random.Random(6), ids(POSITIONS)
    session, others, found, begin = model.open(), [model.open() for _ in range(5)], [], 0
    while begin < POSITIONS:
        size = draw.choice((1, 4, 4, 4, 7, 30))
        company = draw.sample(others, draw.randrange(6))
        work = [(other, ids(draw.randint(1, 9), seed=draw.randrange(99))) for other in company]
        place = draw.randint(0, len(work))
        work.insert(place, (session, tokens[begin : begin + size]))
        found.append(model.step(work)[place])
        begin += size
    assert differing(torch.cat(found), at_once(model, tokens)) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_interrupted_turns_leave_no_trace(dtype: torch.dtype) -> None:
    """What is computed and then taken back changes nothing, be it longer than a page or a window."""
    model, draw, tokens = SmallModel(dtype), random.Random(8), ids(POSITIONS)
    session, found, begin = model.open(), [], 0
    while begin < POSITIONS:
        snapshot = session.snapshot()
        model.step([(session, ids(draw.choice((1, 3, 20, 40)), seed=begin))])
        session.rewind(snapshot)
        size = draw.choice((4, 10, 25))
        found.append(model.step([(session, tokens[begin : begin + size])])[0])
        begin += size
    assert differing(torch.cat(found), at_once(model, tokens)) == []


def test_threads_leave_no_trace() -> None:
    tokens, before, results = ids(POSITIONS), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(in_chunks(SmallModel(torch.float32), tokens, 50))
    finally:
        torch.set_num_threads(before)
    assert differing(results[1], results[0]) == []


SESSIONS = 4
LENGTH = POSITIONS if LONG else 48
MODELS = {dtype: SmallModel(dtype) for dtype in DTYPES}
Turn = list[tuple[int, int, int]]
"""For some sessions, in order: which one, how many tokens it appends, and how many it takes back beforehand."""
TURNS = st.lists(
    st.lists(
        st.tuples(st.integers(0, SESSIONS - 1), st.integers(1, 12), st.sampled_from((0, 0, 0, 1, 5, 18))),
        min_size=1,
        max_size=SESSIONS,
        unique_by=lambda turn: turn[0],
    ),
    min_size=1,
    max_size=40 if LONG else 12,
)


@settings(max_examples=30 if LONG else 5, deadline=None, derandomize=not LONG)
@given(turns=TURNS, dtype=st.sampled_from(DTYPES))
def test_any_schedule_gives_every_session_the_bits_of_one_call(turns: list[Turn], dtype: torch.dtype) -> None:
    model = MODELS[dtype]
    sessions = [model.open() for _ in range(SESSIONS)]
    logits: list[list[Tensor]] = [[] for _ in sessions]
    for turn in turns:
        _play(model, sessions, logits, turn)
    for number, parts in enumerate(logits):
        if parts:
            found = torch.cat(parts)
            assert differing(found, at_once(model, ids(LENGTH, seed=number)[: len(found)])) == []
    for session in sessions:
        session.pages.free()


def _play(model: SmallModel, sessions: list[Session], logits: list[list[Tensor]], turn: Turn) -> None:
    """One call for all sessions of a turn that have tokens left; before it some compute what they take back."""
    work, owners = [], []
    for number, size, taken_back in turn:
        session = sessions[number]
        if taken_back:
            snapshot = session.snapshot()
            model.step([(session, ids(taken_back, seed=taken_back))])
            session.rewind(snapshot)
        begin = session.pages.length
        if part := ids(LENGTH, seed=number)[begin : begin + size]:
            work.append((session, part))
            owners.append(number)
    if work:
        for number, part_logits in zip(owners, model.step(work), strict=True):
            logits[number].append(part_logits)
