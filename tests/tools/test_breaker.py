"""The circuit breaker, on a clock of its own."""

from __future__ import annotations

import pytest

from microturn.tools.breaker import Breaker

pytestmark = pytest.mark.unit


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures=3, pause_s=30, now=clock)
    for _ in range(3):
        assert breaker.begin()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, pause_s=30, now=Clock())
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.begin()


def test_after_the_pause_one_call_tries_and_the_others_wait() -> None:
    clock = Clock()
    breaker = opened(clock)
    assert not breaker.begin() and breaker.wait_s == 30
    clock.now_s += 30
    assert breaker.begin()
    assert not breaker.begin()


def test_the_call_that_tries_decides() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now_s += 30
    assert breaker.begin()
    breaker.failed()
    assert not breaker.begin()

    clock.now_s += 30
    assert breaker.begin()
    breaker.succeeded()
    assert breaker.begin() and breaker.begin()
    breaker.failed()
    assert breaker.begin()
