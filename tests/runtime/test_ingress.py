"""Sound that is pushed from elsewhere: bounded, never waited for, never invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.runtime.ingress import Ingress

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(0, 700), max_size=20), st.lists(st.integers(1, 900), max_size=20))
def test_what_was_pushed_comes_out_in_order_however_it_is_cut(pushed: list[int], taken: list[int]) -> None:
    ingress = Ingress()
    total = sum(pushed)
    sound = np.arange(1, total + 1, dtype=np.float32)
    begin = 0
    for size in pushed:
        ingress.push(sound[begin : begin + size])
        begin += size
    got = np.concatenate([ingress.take(size) for size in [*taken, total]])
    assert np.array_equal(got[got > 0], sound)


def test_underrun_is_silence_and_is_counted() -> None:
    ingress = Ingress()
    ingress.push(np.ones(1000, np.float32))
    audio = ingress.take(3200)
    assert audio[:1000].all()
    assert not audio[1000:].any()
    assert ingress.missing_samples == 2200


def test_overflow_drops_the_oldest_and_is_counted() -> None:
    ingress = Ingress(limit_s=0.1)
    ingress.push(np.arange(1000, dtype=np.float32))
    ingress.push(np.arange(1000, 2000, dtype=np.float32))
    assert ingress.dropped_samples == 400
    assert np.array_equal(ingress.take(1600), np.arange(400, 2000, dtype=np.float32))


def test_broken_samples_become_silence() -> None:
    ingress = Ingress()
    ingress.push(np.array([np.nan, np.inf, -np.inf, 0.5], np.float32))
    assert ingress.take(4).tolist() == [0.0, 0.0, 0.0, 0.5]


def test_it_has_ended_when_it_is_closed_and_empty() -> None:
    ingress = Ingress()
    ingress.push(np.ones(10, np.float32))
    ingress.close()
    assert not ingress.ended
    ingress.take(3200)
    assert ingress.ended
    assert ingress.missing_samples == 0
