from __future__ import annotations

import pytest

from microturn.runtime.bus import own_sessions
from microturn.runtime.bus.own_sessions import OwnSessions

pytestmark = pytest.mark.unit


def test_a_loss_is_told_once_until_the_session_is_here_again() -> None:
    lost: list[str] = []
    sessions = OwnSessions(lost.append)
    sessions.gain("s", 0)
    for _ in range(3):
        sessions.lose("s", 1)
    assert lost == ["s"]
    sessions.gain("s", 2)
    sessions.lose("s", 3)
    assert lost == ["s", "s"]


def test_late_word_of_an_earlier_loss_does_not_count_once_the_session_is_here_again() -> None:
    lost: list[str] = []
    sessions = OwnSessions(lost.append)
    sessions.expect("s")
    sessions.lose("s", 1)
    sessions.gain("s", 2)
    sessions.lose("s", 1)
    sessions.lose("s", 2)
    assert lost == []


def test_a_session_that_was_never_heard_of_can_be_lost() -> None:
    lost: list[str] = []
    sessions = OwnSessions(lost.append)
    sessions.lose("s", sessions.epoch("s") + 1)
    assert lost == ["s"]


def test_what_is_remembered_of_lost_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_sessions, "MOST_REMEMBERED", 2)
    lost: list[str] = []
    sessions = OwnSessions(lost.append)
    for name in ("a", "b", "c", "c", "a"):
        sessions.lose(name, 1)
    assert lost == ["a", "b", "c", "a"]
