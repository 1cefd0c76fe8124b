"""A question by voice over the real bus: its worker is killed, its server is out of reach, and the answer counts once."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from microturn.protocols import Action, Delegate
from microturn.protocols import Answer as AnswerAction
from microturn.runtime.bus import BusSettings, EmbeddedServer
from microturn.runtime.clock import WallClock
from microturn.runtime.host import Host
from microturn.runtime.hub import open_hub
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.testing import Answer, Faults, FaultyLink, Listener, ScriptedModel, ToneVoice, UserLine

pytestmark = [pytest.mark.redis, pytest.mark.anyio, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.runtime.asking_program"
QUESTION = "Shall I send it to Bob?"
LEASE_S = 0.6
_TENANTS = itertools.count()


class Asking:
    """A worker that asks, in a process of its own."""

    def __init__(self, settings: BusSettings, path: Path) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", PROGRAM, settings.url, settings.tenant),
                *(str(settings.lease_s), str(path)),
            ],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    async def wait(self) -> None:
        """Wait until it is ready."""
        assert self._process.stdout is not None
        assert await anyio.to_thread.run_sync(self._process.stdout.readline) == b"ready\n"

    def send(self, what: signal.Signals) -> None:
        os.kill(self._process.pid, what)

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


class Office:
    """A conversation on a real clock, and the workers behind it."""

    def __init__(self, settings: BusSettings, path: Path) -> None:
        self.settings = settings
        self.path = path
        self.listener = Listener()
        self.workers: list[Asking] = []
        self.session: Session
        voice = ToneVoice(word_ms=60)
        self.model = ScriptedModel([UserLine(0, 200, "send it to Bob?")], self._react, voice)

    def worker(self) -> Asking:
        self.workers.append(Asking(self.settings, self.path))
        return self.workers[-1]

    @property
    def sent(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []

    @asynccontextmanager
    async def talk(self, url: str) -> AsyncIterator[None]:
        """Hold the conversation for as long as the block; it begins once the question was understood."""
        settings = BusSettings(url, tenant=self.settings.tenant, lease_s=LEASE_S, presence_s=0.1)
        async with open_hub(settings) as hub, anyio.create_task_group() as tasks:
            host = Host(self.model, WallClock())
            source = Ingress()
            source.close()
            self.session = Session("office", source, hub.port("office"), observers=[self.listener])
            host.add(self.session)
            tasks.start_soon(host.run)
            with anyio.fail_after(30):
                while self.session.questions.open is None:
                    await anyio.sleep(0.02)
                yield
            tasks.cancel_scope.cancel()

    async def hears(self, text: str) -> None:
        while text not in self.listener.heard:
            await anyio.sleep(0.02)

    def _react(self, text: str) -> Answer:
        return Answer(actions=(self._action(text),))

    def _action(self, text: str) -> Action:
        given = self.model.sessions["office"].inputs[-1]
        if given.question is None:
            return Delegate(text, 0, 200)
        return AnswerAction(given.question.item_id, text, given.end_ms, given.end_ms)


@pytest.fixture
def office(redis_server: EmbeddedServer, tmp_path: Path) -> Iterator[Office]:
    settings = BusSettings(
        redis_server.url, tenant=f"office{next(_TENANTS)}", lease_s=LEASE_S, presence_s=0.1
    )
    made = Office(settings, tmp_path / "sent")
    yield made
    for worker in made.workers:
        worker.end()


@pytest.mark.parametrize("killed", ["before the answer", "after the answer"])
async def test_the_worker_that_asked_is_killed_and_another_one_acts_on_the_answer(
    office: Office, killed: str
) -> None:
    first = office.worker()
    await first.wait()
    async with office.talk(office.settings.url):
        first.send(signal.SIGSTOP)
        if killed == "before the answer":
            first.end()
        office.session.type("yes, please")
        await anyio.sleep(0.3)  # until the answer is stored
        assert office.sent == []
        first.end()
        await office.worker().wait()
        await office.hears("It is sent.")
    assert office.listener.said.count(QUESTION) == 1
    assert office.sent == ["Bob"]


@pytest.mark.parametrize(
    ("words", "result", "sent"), [("sure", "It is sent.", ["Bob"]), ("no", "It was not sent.", [])]
)
async def test_an_answer_that_is_given_while_the_server_is_out_of_reach_counts_when_it_is_back(
    office: Office, words: str, result: str, sent: list[str]
) -> None:
    await office.worker().wait()
    with FaultyLink(office.settings.url) as link:
        async with office.talk(link.url):
            link.set(Faults(cut=True))
            office.session.type(words)
            await anyio.sleep(1.0)
            assert office.sent == []
            link.heal()
            await office.hears(result)
    assert office.sent == sent


async def test_an_answer_of_which_the_confirmation_is_lost_counts_once(office: Office) -> None:
    await office.worker().wait()
    with FaultyLink(office.settings.url) as link:
        async with office.talk(link.url):
            link.set(Faults(drop_every=1, limit=3))
            office.session.type("go ahead")
            await office.hears("It is sent.")
    assert office.sent == ["Bob"]
    assert office.listener.said.count(QUESTION) == 1
