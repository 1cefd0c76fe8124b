"""What the user shows goes with the next tasks, by reference, as long as it is kept."""

from __future__ import annotations

import pytest

from microturn.protocols import Delegate, Reference
from microturn.runtime.bus.attachments import ATTACHMENT_LIMIT_BYTES
from microturn.runtime.key_frames import KEPT_FRAMES, KeyFrames
from microturn.runtime.testing import Answer, Stage, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]


def frame(name: str, time_ms: int = 0) -> Reference:
    return Reference(key=name, sha256=name, media_type="image/jpeg", time_ms=time_ms, ttl_s=10)


def names(frames: KeyFrames, now_ms: float = 0.0) -> list[str]:
    return [reference.key for reference in frames.at(now_ms)]


def staged(*at_ms: int) -> Stage:
    lines = tuple(UserLine(at, at + 400, "what is it?") for at in at_ms)
    return Stage(lines, lambda text: Answer("", (Delegate(text, 0, 400),)), lambda _: ())


async def test_the_newest_pictures_are_kept_oldest_first() -> None:
    frames = KeyFrames()
    for n in range(KEPT_FRAMES + 2):
        frames.add(frame(str(n)))
    assert names(frames) == [str(n) for n in range(2, KEPT_FRAMES + 2)]


async def test_a_picture_that_is_shown_again_counts_as_new() -> None:
    frames = KeyFrames()
    for name, time_ms in (("a", 0), ("b", 1), ("a", 2)):
        frames.add(frame(name, time_ms))
    assert names(frames) == ["b", "a"]
    assert frames.at(0.0)[-1].time_ms == 2


async def test_a_picture_whose_time_is_over_is_not_handed_over() -> None:
    frames = KeyFrames()
    frames.add(frame("old", 0))
    frames.add(frame("new", 5_000))
    assert names(frames, 9_999) == ["old", "new"]
    assert names(frames, 10_000) == ["new"]


async def test_what_was_shown_goes_with_the_tasks_that_follow() -> None:
    stage = staged(0, 2_000)
    await stage.run(1_000)
    assert stage.session.show(b"a picture", "image/png")
    await stage.run(4_000)
    before, after = stage.background.packages
    assert before.key_frames == ()
    (reference,) = after.key_frames
    assert (reference.media_type, reference.time_ms) == ("image/png", 1_000)
    assert stage.background.kept[reference.key] == b"a picture"


async def test_a_picture_that_is_too_large_is_refused() -> None:
    stage = staged(0)
    assert not stage.session.show(b"x" * (ATTACHMENT_LIMIT_BYTES + 1), "image/png")
    assert not stage.session.show(b"", "image/png")
    await stage.run(2_000)
    assert stage.background.packages[0].key_frames == ()


async def test_a_session_that_is_elsewhere_takes_no_pictures() -> None:
    stage = staged()
    stage.background.state = "moved"
    assert not stage.session.show(b"a picture", "image/png")
