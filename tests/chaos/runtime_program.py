"""A runtime process of the chaos run: the real host, hub and sessions, whose user and client is the driver.

Usage: python -m tests.chaos.runtime_program URL. Commands come as lines of JSON:

    {"do": "open", "session": S}                             begin a session
    {"do": "reopen", "session": S, "heard": {ITEM: WORDS}}   take it over
    {"do": "say", "session": S, "text": T, "ms": N}          the user speaks for so long, from the next micro-turn on
    {"do": "heard", "session": S, "utterance": U, "words": N}  the client has played so many words of it

and what happens is said in lines, each in one write, with session time in milliseconds:

    ready PID
    opened S                       it is here
    refused S ERROR                it could not be taken over
    word S ITEM INDEX WORD MS      a word was played out; ITEM is `-` where it is of no result
    played S UTTERANCE WORDS       so many words of it were played out; what the client does not confirm was not heard
    user S FROM TO                 the user speaks
    sound S FROM TO                the assistant was to be heard
    late MS AT                     a step was done so long after it, or the first it makes up for, was due at AT
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import cast

import anyio
import numpy as np

from microturn.interaction_model import ModelSession, SessionConfig
from microturn.protocols import (
    MICRO_TURN_MS,
    OUTPUT_RATE_HZ,
    Delegate,
    MicroturnError,
    MicroTurnInput,
    MicroTurnOutput,
    Samples,
    Utterance,
    WordsHeard,
)
from microturn.runtime.clock import WallClock
from microturn.runtime.events import SessionEvent, TickDone
from microturn.runtime.host import Host
from microturn.runtime.hub import Hub, open_hub
from microturn.runtime.ingress import Ingress
from microturn.runtime.playout import Playout, samples_to_ms
from microturn.runtime.remarks import Remarks
from microturn.runtime.session import Session
from microturn.runtime.testing import Answer, ScriptedModel, ToneVoice, UserLine
from tests.chaos.jobs import job_of
from tests.chaos.settings import DEADLINE_S, settings_for

WORD_MS = 40
LATE_MS = 20.0


def tell(*words: object) -> None:
    """Say one line; in one write, so that a process that is killed has said all of it or nothing."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Talk(ScriptedModel):
    """The model's half of one session, whose user says new lines while it runs."""

    def __init__(self) -> None:
        super().__init__(answer=_answer, voice=ToneVoice(WORD_MS))

    def hear(self, line: UserLine) -> None:
        """Let the user say one more line, after all others."""
        self._lines.append(line)


class Talks:
    """One interaction model for all sessions, each with lines of its own."""

    fingerprint = "scripted"

    def __init__(self) -> None:
        self.of: dict[str, Talk] = {}

    def open(self, config: SessionConfig) -> ModelSession:
        """Begin a session."""
        self.of[config.session_id] = Talk()
        return self.of[config.session_id].open(config)

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every session along its own lines."""
        return [self.of[session.session_id].step([(session, given)])[0] for session, given in inputs]

    def settle(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Nothing to give back."""


class ToldPlayout(Playout):
    """Tells every word as soon as it is played out, and takes for heard what the client confirms.

    A client that has turned away confirms nothing: what a runtime plays then, was heard by nobody.
    """

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self._session_id = session_id
        self._saying: dict[str, tuple[Utterance, int]] = {}
        self._unconfirmed: dict[str, WordsHeard] = {}
        self._confirmed: list[WordsHeard] = []

    def push(self, output: MicroTurnOutput) -> None:
        """Queue what a step said."""
        for utterance in output.utterances:
            self._saying[utterance.utterance_id] = (utterance, 0)
        super().push(output)

    def take_heard(self) -> tuple[WordsHeard, ...]:
        """Return what the client has confirmed since the last call."""
        now_ms = round(samples_to_ms(self.clock_samples)) + MICRO_TURN_MS
        for report in super().take_heard():
            utterance, told = self._saying[report.utterance_id]
            words = utterance.text.split()
            for index in range(told, report.words):
                tell("word", self._session_id, utterance.item_id or "-", index, words[index], now_ms)
            self._saying[report.utterance_id] = (utterance, report.words)
            if report.finished:
                del self._saying[report.utterance_id]
            self._unconfirmed[report.utterance_id] = report
            tell("played", self._session_id, report.utterance_id, report.words)
        confirmed, self._confirmed = tuple(self._confirmed), []
        return confirmed

    def confirm(self, utterance_id: str, words: int) -> None:
        """Take in that the client has played so many words of an utterance."""
        report = self._unconfirmed.get(utterance_id)
        if report is None:
            return
        if words < report.words:
            report = WordsHeard(utterance_id, words, finished=False)
        else:
            del self._unconfirmed[utterance_id]
        self._confirmed.append(report)


class Ear:
    """Tells when the assistant is to be heard. A session that joins late has been silent before."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._samples = 0

    def heard(self, audio: Samples) -> None:
        """The user's side has no sound here."""

    def played(self, audio: Samples) -> None:
        """Tell from where to where there is sound in it."""
        (sounding,) = np.nonzero(audio)
        if len(sounding):
            ends = (self._ms(int(sounding[0])), self._ms(int(sounding[-1]) + 1))
            tell("sound", self._session_id, *ends)
        self._samples += len(audio)

    def _ms(self, sample: int) -> int:
        return (self._samples + sample) * 1000 // OUTPUT_RATE_HZ + MICRO_TURN_MS


class Program:
    """Does what the driver says."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._talks = Talks()
        self._seated: set[str] = set()
        self._playouts: dict[str, ToldPlayout] = {}
        self._open: set[str] = set()
        """The seated ones that are not just being reopened."""
        self.host = Host(self._talks, WallClock())

    async def obey(self, line: str) -> None:
        """Carry out one command."""
        order = json.loads(line)
        match order["do"]:
            case "open":
                self._seat(order["session"])
            case "reopen":
                await self._reopen(order["session"], order["heard"])
            case "say":
                self._say(order["session"], order["text"], order["ms"])
            case "heard":
                self._playouts[order["session"]].confirm(order["utterance"], order["words"])

    def _seat(self, session_id: str) -> None:
        source = Ingress()
        source.close()
        session = Session(
            session_id,
            source,
            self._hub.port(session_id),
            observers=[self._watch],
            deadline_s=DEADLINE_S,
            remarks=Remarks(()),
        )
        self._add(session)

    async def _reopen(self, session_id: str, heard: Mapping[str, int]) -> None:
        self._open.discard(session_id)
        try:
            port, reopened = await self._hub.reopen(session_id, heard, now_ms=self.host.beat.session_ms())
        except MicroturnError as error:
            tell("refused", session_id, type(error).__name__)
            return
        source = Ingress()
        source.close()
        session = Session(
            session_id,
            source,
            port,
            observers=[self._watch],
            deadline_s=DEADLINE_S,
            remarks=Remarks(()),
            reopened=reopened,
        )
        self._add(session)

    def _add(self, session: Session) -> None:
        """Seat a session, in the place of one that was lost before."""
        session_id = session.session_id
        if session_id in self._seated:
            self.host.remove(session_id)
        self._seated.add(session_id)
        self._open.add(session_id)
        session.playout = self._playouts[session_id] = ToldPlayout(session_id)
        self.host.add(session, taps=[Ear(session_id)])
        tell("opened", session_id)

    def _say(self, session_id: str, text: str, length_ms: int) -> None:
        if session_id not in self._open:  # nobody hears it, as when a call is cut off
            return
        start_ms = (int(self.host.beat.session_ms()) // MICRO_TURN_MS + 1) * MICRO_TURN_MS
        self._talks.of[session_id].hear(UserLine(start_ms, start_ms + length_ms, text))
        tell("user", session_id, start_ms, start_ms + length_ms)

    @staticmethod
    def _watch(event: SessionEvent) -> None:
        if not isinstance(event, TickDone):
            return
        missed_ms = (event.count - 1) * MICRO_TURN_MS
        late_ms = missed_ms + event.lateness_ms + event.step_ms + event.runtime_ms
        if late_ms > LATE_MS:
            tell("late", round(late_ms), (event.index + 1) * MICRO_TURN_MS - missed_ms)


def _answer(text: str) -> Answer:
    return Answer(actions=(Delegate(text, 0, 0),)) if job_of(text) is not None else Answer()


async def main(url: str) -> None:
    """Serve until killed, or until the driver is gone."""
    async with open_hub(settings_for(url)) as hub, anyio.create_task_group() as tasks:
        await hub.until_worker()
        program = Program(hub)
        tasks.start_soon(program.host.run)
        tell("ready", os.getpid())
        async for line in anyio.wrap_file(sys.stdin):
            tasks.start_soon(program.obey, cast("str", line))
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
