"""The pages of sessions, against a model that keeps every token in a plain list."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from microturn.kernels import (
    EVICTED,
    BadShapeError,
    CachedSession,
    LostTokensError,
    PagePool,
    PoolFullError,
    batch_tables,
)

pytestmark = pytest.mark.unit

PAGES, PAGE = 9, 16


@dataclass
class Held:
    """A session, and what should stand in it: one number per token, None once it may be gone."""

    session: CachedSession
    tokens: list[int | None] = field(default_factory=list)
    evicted_until: int = 0


class Pages(RuleBasedStateMachine):
    """Tokens are numbers, written to a pool of numbers as the page tables say."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(PAGES, PAGE)
        self.memory = [0] * (PAGES * PAGE)
        self.held = [Held(CachedSession(self.pool))]
        self.next_token = 1

    @rule(which=st.integers(0, 9), count=st.integers(0, 40))
    def append(self, which: int, count: int) -> None:
        held = self.held[which % len(self.held)]
        before = held.session.pages, held.session.length, self.pool.free_pages
        try:
            appended = held.session.append(count)
        except PoolFullError as error:
            assert error.wanted > error.free == self.pool.free_pages
            assert (held.session.pages, held.session.length, self.pool.free_pages) == before
            return
        if appended.copy is not None:
            shared, own = appended.copy
            self.memory[own * PAGE : (own + 1) * PAGE] = self.memory[shared * PAGE : (shared + 1) * PAGE]
        assert len(appended.slots) == count
        for slot in appended.slots:
            self.memory[slot] = self.next_token
            held.tokens.append(self.next_token)
            self.next_token += 1

    @rule(which=st.integers(0, 9), back=st.integers(0, 50))
    def truncate(self, which: int, back: int) -> None:
        held = self.held[which % len(self.held)]
        length = len(held.tokens) - back
        if held.evicted_until <= length:
            held.session.truncate(length)
            del held.tokens[length:]
            return
        with pytest.raises(LostTokensError, match="can go back to between"):
            held.session.truncate(length)

    @precondition(lambda self: len(self.held) < 4)
    @rule(which=st.integers(0, 9))
    def fork(self, which: int) -> None:
        held = self.held[which % len(self.held)]
        free = self.pool.free_pages
        self.held.append(Held(held.session.fork(), list(held.tokens), held.evicted_until))
        assert self.pool.free_pages == free

    @rule(which=st.integers(0, 9), sinks=st.integers(0, 40), near=st.integers(0, 40))
    def evict(self, which: int, sinks: int, near: int) -> None:
        held = self.held[which % len(self.held)]
        before = max(0, len(held.tokens) - near)
        held.session.evict(sinks, before)
        for index in range(len(held.tokens) // PAGE):
            begin, end = index * PAGE, (index + 1) * PAGE
            if sinks <= begin and end <= before and held.tokens[begin] is not None:
                held.tokens[begin:end] = [None] * PAGE
                held.evicted_until = max(held.evicted_until, end)

    @precondition(lambda self: len(self.held) > 1)
    @rule(which=st.integers(0, 9))
    def free(self, which: int) -> None:
        held = self.held.pop(which % len(self.held))
        held.session.free()
        assert (held.session.length, held.session.pages) == (0, ())

    @invariant()
    def every_token_stands_where_its_session_looks(self) -> None:
        for held in self.held:
            assert held.session.length == len(held.tokens)
            assert held.session.evicted_until == held.evicted_until
            for position, token in enumerate(held.tokens):
                page = held.session.pages[position // PAGE]
                assert (page == EVICTED) == (token is None)
                assert token is None or self.memory[page * PAGE + position % PAGE] == token

    @invariant()
    def every_page_is_free_or_counted_once_per_session(self) -> None:
        used = [page for held in self.held for page in held.session.pages if page != EVICTED]
        assert [self.pool.holders(page) for page in range(PAGES)] == [used.count(n) for n in range(PAGES)]
        assert self.pool.free_pages == PAGES - len(set(used))
        for held in self.held:
            assert len(held.session.pages) == -(-len(held.tokens) // PAGE)


TestPages = Pages.TestCase
TestPages.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_full_pool_is_told_with_numbers_and_what_to_do() -> None:
    pool = PagePool(2, 16)
    session = CachedSession(pool)
    session.append(20)
    with pytest.raises(PoolFullError, match=r"take 1 pages .* found 0 free of 2; free a session"):
        session.append(13)
    assert session.append(12).slots == tuple(range(20, 32))


def test_a_copy_of_a_shared_page_counts_when_the_pool_is_nearly_full() -> None:
    pool = PagePool(2, 16)
    parent = CachedSession(pool)
    parent.append(10)
    child = parent.fork()
    with pytest.raises(PoolFullError):
        child.append(10)
    assert (child.pages, child.length, pool.holders(0)) == ((0,), 10, 2)
    appended = child.append(6)
    assert appended.copy == (0, 1) and appended.slots == tuple(range(26, 32))
    assert parent.append(1).copy is None


def test_a_page_that_is_shared_whole_is_not_copied() -> None:
    pool = PagePool(4, 16)
    parent = CachedSession(pool)
    parent.append(16)
    child = parent.fork()
    assert child.append(1).copy is None
    child.truncate(15)
    assert child.append(1).copy == (0, 1)


def test_the_tables_of_a_batch_say_what_is_new() -> None:
    pool = PagePool(8, 16)
    sessions = [CachedSession(pool) for _ in range(3)]
    for session, count in zip(sessions, (40, 3, 0), strict=True):
        session.append(count)
    sessions[0].evict(0, 20)
    tables = batch_tables(sessions, [2, 3, 0])
    assert tables.page_table.tolist() == [[EVICTED, 1, 2], [3, EVICTED, EVICTED], [EVICTED] * 3]
    assert tables.starts.tolist() == [0, 2, 5, 5]
    assert tables.lengths.tolist() == [40, 3, 0]
    assert {tables.page_table.dtype, tables.starts.dtype, tables.lengths.dtype} == {torch.int32}


def test_tables_without_a_session_are_empty() -> None:
    tables = batch_tables([], [])
    assert (tables.page_table.shape, tables.starts.tolist(), tables.lengths.shape) == ((0, 0), [0], (0,))


@pytest.mark.parametrize("counts", [[4], [1, 1], [-1], []])
def test_more_new_tokens_than_a_session_has_are_refused(counts: list[int]) -> None:
    session = CachedSession(PagePool(1, 16))
    session.append(3)
    with pytest.raises(BadShapeError, match="one number per session"):
        batch_tables([session], counts)


def test_impossible_numbers_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="pages must be at least 1, got 0"):
        PagePool(0, 16)
    with pytest.raises(ValueError, match="page_size must be a multiple of 16, got 24"):
        PagePool(1, 24)
    session = CachedSession(PagePool(1, 16))
    with pytest.raises(ValueError, match="tokens must not be negative, got -1"):
        session.append(-1)
    with pytest.raises(ValueError, match="before <= 0"):
        session.evict(0, 1)
