"""The host: several sessions on one beat, steps that come late, sessions that come and go."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from microturn.interaction_model import ModelSession
from microturn.protocols import (
    INPUT_RATE_HZ,
    MICRO_TURN_MS,
    OUTPUT_LEAD_SAMPLES,
    OUTPUT_SAMPLES,
    MicroTurnInput,
    MicroTurnOutput,
    Samples,
)
from microturn.runtime.beat import Tick
from microturn.runtime.clock import VirtualClock
from microturn.runtime.events import SessionEvent, SpeechBegan, SpeechEnded, TickDone, UserSaid
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.testing import Answer, Listener, ScriptedBackground, ScriptedModel, UserLine

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

HELLO = UserLine(0, 400, "hello")


class LateModel(ScriptedModel):
    """A model whose third step takes longer than its micro-turn: the clock has moved on when it is done."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__([HELLO], lambda _: Answer("Good morning to you."))
        self._clock = clock
        self.steps = 0

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        outputs = super().step(inputs)
        self.steps += 1
        if self.steps == 3:
            self._clock._now += 0.5
        return outputs


class Ramp:
    """A source in which every sample is different, so that a lost or repeated one is seen."""

    ended = False

    def __init__(self) -> None:
        self.given = 0

    def take(self, samples: int) -> Samples:
        """Return the next samples."""
        first, self.given = self.given, self.given + samples
        ramp: Samples = (np.arange(first, self.given) % 8191 / 8192).astype(np.float32)
        return ramp


def seated(host: Host, name: str) -> tuple[Session, Listener]:
    listener = Listener()
    session = Session(name, Ingress(), ScriptedBackground(now_ms=host.beat.session_ms), observers=[listener])
    host.add(session)
    return session, listener


def until(index: int) -> UntilTick:
    return UntilTick(index)


class UntilTick:
    """Ends a run after the micro-turn of a number."""

    def __init__(self, index: int) -> None:
        self._index = index

    def __call__(self, tick: Tick) -> bool:
        return tick.index >= self._index


async def test_two_sessions_on_one_beat_hear_only_their_own_words() -> None:
    host = Host(ScriptedModel(answer=lambda text: Answer(f"You said {text}.")), VirtualClock())
    first, heard_first = seated(host, "first")
    second, heard_second = seated(host, "second")
    first.type("one")
    second.type("two")
    await host.run(until(19))
    assert heard_first.heard == ["You said one."]
    assert heard_second.heard == ["You said two."]
    assert first.history.turns[0].text == "one"


async def test_after_a_standstill_speech_goes_on_where_it_was_and_can_be_stopped_at_once() -> None:
    clock = VirtualClock()
    interrupts = UserLine(2200, 3000, "stop")
    says = {"hello": Answer(" ".join(f"word{n}" for n in range(30)))}
    host = Host(ScriptedModel([HELLO, interrupts], lambda text: says.get(text, Answer())), clock)
    backlogs: list[int] = []

    def stand_still(event: SessionEvent) -> None:
        if isinstance(event, TickDone):
            backlogs.append(session.playout.backlog_samples)
            if event.index == 5:
                clock._now += 0.7

    listener = Listener()
    session = Session("s", Ingress(), ScriptedBackground(), observers=[listener, stand_still])
    host.add(session)
    await host.run(until(15))
    # The step that makes up comes between two beats, so the next one finds up to a micro-turn of speech unplayed.
    assert max(backlogs) < 2 * OUTPUT_SAMPLES + OUTPUT_LEAD_SAMPLES
    (ended,) = listener.seen(SpeechEnded)
    assert ended.at_ms <= 2200 + 2 * MICRO_TURN_MS
    assert 0 < ended.words_heard < 6


async def test_a_late_step_is_made_up_and_no_sample_is_lost_or_repeated() -> None:
    clock = VirtualClock()
    model = LateModel(clock)
    host = Host(model, clock)
    ticks: list[TickDone] = []
    source = Ramp()
    session = Session(
        "s",
        source,
        ScriptedBackground(),
        observers=[lambda event: ticks.append(event) if isinstance(event, TickDone) else None],
    )
    host.add(session)
    await host.run(until(9))
    assert [tick.count for tick in ticks] == [1, 1, 1, 2, 1, 1, 1, 1, 1]
    assert [tick.index for tick in ticks] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    taken = np.concatenate([given.audio for given in model.sessions["s"].inputs])
    assert len(taken) == 10 * INPUT_RATE_HZ // 5
    assert np.array_equal(taken, Ramp().take(len(taken)))


async def test_what_is_said_across_a_late_step_is_heard_whole() -> None:
    clock = VirtualClock()
    host = Host(LateModel(clock), clock)
    _, listener = seated(host, "s")
    await host.run(until(19))
    assert listener.heard == ["Good morning to you."]


async def test_a_session_that_is_added_later_begins_to_be_heard_then() -> None:
    host = Host(ScriptedModel(answer=lambda text: Answer(f"You said {text}.")), VirtualClock())
    seated(host, "early")
    late: list[Listener] = []

    def add_at_five(tick: Tick) -> bool:
        if tick.index == 5:
            session, listener = seated(host, "late")
            session.type("hi")
            late.append(listener)
        return tick.index >= 19

    await host.run(add_at_five)
    assert late[0].heard == ["You said hi."]
    assert late[0].seen(SpeechBegan)[0].at_ms >= 1200


async def test_a_session_that_is_removed_is_closed_and_the_others_go_on() -> None:
    model = ScriptedModel([UserLine(2000, 2400, "anyone?")], lambda _: Answer("Yes, here."))
    host = Host(model, VirtualClock())
    _, gone = seated(host, "gone")
    _, stays = seated(host, "stays")

    def remove_at_five(tick: Tick) -> bool:
        if tick.index == 5:
            host.remove("gone")
        return tick.index >= 29

    await host.run(remove_at_five)
    assert model.sessions["gone"].closed
    assert not gone.seen(UserSaid)
    assert stays.heard == ["Yes, here."]


async def test_a_minute_on_a_virtual_clock_takes_a_fraction_of_a_minute() -> None:
    host = Host(ScriptedModel(), VirtualClock())
    _, listener = seated(host, "s")
    began = time.perf_counter()
    await host.run(until(299))
    assert time.perf_counter() - began < 6
    assert listener.missed == 0
