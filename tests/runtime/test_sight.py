"""What a camera shows reaches the model in pairs, and neither waits for the other."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microturn.protocols import Frame
from microturn.runtime._errors import BadFrameError
from microturn.runtime.beat import Tick
from microturn.runtime.clock import VirtualClock
from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.sight import KEPT_FRAMES, STALE_MS, Sight
from microturn.runtime.testing import ScriptedBackground, ScriptedModel, Stage

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def pixels(value: int = 0) -> npt.NDArray[np.uint8]:
    return np.full((12, 16, 3), value, np.uint8)


def times(frames: tuple[Frame, ...]) -> list[int]:
    return [frame.time_ms for frame in frames]


def seen(now_ms: float, *at_ms: int) -> list[int]:
    sight = Sight()
    for at in at_ms:
        sight.push(Frame(at, pixels()))
    return times(sight.take(now_ms))


def test_of_a_fast_camera_two_frames_100_ms_apart_are_seen() -> None:
    assert seen(200, *range(0, 200, 10)) == [90, 190]
    assert seen(200, 0, 33, 67, 100, 133, 167) == [67, 167]


def test_a_slow_camera_is_seen_as_often_as_it_shows_something() -> None:
    assert seen(200) == []
    assert seen(200, 150) == [150]
    assert seen(200, 20, 150) == [20, 150]


def test_frames_are_seen_once_and_stale_ones_never() -> None:
    sight = Sight()
    sight.push(Frame(100, pixels()))
    assert times(sight.take(200)) == [100]
    assert sight.take(400) == ()
    assert seen(1000, 1000 - STALE_MS) == []
    assert seen(1000, 100, 1001 - STALE_MS) == [1001 - STALE_MS]


@given(st.lists(st.integers(0, 2000), max_size=80), st.integers(0, 2400))
def test_whatever_is_shown_at_most_two_fresh_frames_are_seen_in_order(at_ms: list[int], now_ms: int) -> None:
    found = seen(now_ms, *at_ms)
    fresh = [at for at in at_ms[-KEPT_FRAMES:] if at > now_ms - STALE_MS]
    assert len(found) == min(2, len(set(fresh)))
    assert found == sorted(set(found))
    assert found[-1:] == sorted(fresh)[-1:]


def test_a_camera_may_write_over_the_frame_that_it_has_shown() -> None:
    sight, buffer = Sight(), pixels(1)
    sight.push(Frame(0, buffer))
    buffer[:] = 2
    assert sight.take(200)[0].pixels.max() == 1


@pytest.mark.parametrize(
    "shown", [np.zeros((12, 16), np.uint8), np.zeros((12, 16, 4), np.uint8), np.zeros((0, 16, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused_to_whoever_shows_it(shown: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(BadFrameError, match="height, width, 3"):
        Stage().session.see(Frame(0, shown))


async def test_a_session_gives_its_model_the_frames_of_each_step() -> None:
    stage = Stage()
    stage.session.see(Frame(50, pixels(1)))
    stage.session.see(Frame(150, pixels(2)))
    await stage.run(200)
    stage.session.see(Frame(350, pixels(3)))
    await stage.run(400)
    given = stage.model.sessions["stage"].inputs
    assert [times(each.frames) for each in given] == [[50, 150], [350], []]


async def test_a_host_stamps_frames_with_the_time_of_the_session_from_any_thread() -> None:
    clock = VirtualClock()
    model = ScriptedModel()
    host = Host(model, clock)
    answers: list[bool] = []

    def show(event: SessionEvent) -> None:
        if isinstance(event, TickDone):
            camera = threading.Thread(target=lambda: answers.append(host.see("s", pixels(event.index))))
            camera.start()
            camera.join()

    host.add(Session("s", Ingress(), ScriptedBackground(), observers=[show]))
    await host.run(lambda tick: tick.index >= 2)
    given = model.sessions["s"].inputs
    assert [times(each.frames) for each in given] == [[], [200], [400]]
    assert [each.frames[0].pixels.max() for each in given[1:]] == [0, 1]
    assert answers == [True] * 3
    assert not host.see("another", pixels())


def test_a_late_step_sees_the_frames_of_its_newest_micro_turn() -> None:
    session = Stage().session
    for at in range(0, 1000, 100):
        session.see(Frame(at, pixels()))
    given = session.prepare(Tick(index=4, count=5, lateness_s=0.8))
    assert times(given.frames) == [800, 900]
