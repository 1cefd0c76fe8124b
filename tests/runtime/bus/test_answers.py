"""Answers of the user to a task's questions on a real server: kept with the task, told once, no correction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from microturn.background_agent.worker_bus import Begun, TaskEntry
from microturn.protocols import ContextPackage, DelegationEvent, Speech
from microturn.runtime.bus import BusSettings, open_delegation_port, open_worker_port
from microturn.runtime.bus.notes import answer_note, read_notes
from microturn.runtime.bus.outgoing import ANSWER_CHARACTERS
from microturn.runtime.bus.worker_port import WorkerPort
from microturn.runtime.testing import Faults, FaultyLink

pytestmark = [pytest.mark.redis, pytest.mark.anyio]

MakePackage = Callable[..., ContextPackage]


def question(seq: int, attempt: int = 1, text: str = "Shall I?") -> DelegationEvent:
    speech = Speech(text=text, kind="question")
    return DelegationEvent(task_id="a", attempt=attempt, seq=seq, kind="partial", speech=speech, text=text)


async def begin(worker: WorkerPort) -> tuple[TaskEntry, Begun]:
    with anyio.fail_after(5):
        while True:
            entry = await worker.take()
            if (begun := await worker.begin(entry)) is not None:
                return entry, begun


async def test_an_answer_is_told_once_with_the_next_sign_of_life_and_corrects_nothing(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry, begun = await begin(worker)
        assert begun.answers == {}
        assert (await worker.emit("a", 1, [question(1)])).answers == {}
        assert await port.answer("a", 1, "yes, \u00e9 \u2713") == "stored"
        told = await worker.beat(entry, 1)
        assert (told.answers, told.updates) == ({1: "yes, \u00e9 \u2713"}, ())
        assert (await worker.beat(entry, 1)).answers == {}
        assert (await port.ledger("session")).promises[0].revision == 0
        await worker.emit("a", 1, [question(2)])
        port.answer_nowait("a", 2, "")
        while not (told := await worker.beat(entry, 1)).answers:
            await anyio.sleep(0.01)
        assert told.answers == {2: ""}
        end = DelegationEvent(task_id="a", attempt=1, seq=3, kind="final")
        assert not (await worker.emit("a", 1, [end], finish=True)).corrected


async def test_the_first_answer_to_a_question_stays(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry, _ = await begin(worker)
        await worker.emit("a", 1, [question(1)])
        assert await port.answer("a", 1, "no") == "stored"
        assert await port.answer("a", 1, "yes") == "stored"
        assert (await worker.beat(entry, 1)).answers == {1: "no"}


async def test_an_answer_to_nothing_and_one_that_comes_too_late_are_not_kept(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        assert await port.answer("a", 1, "yes") == "unknown"
        await port.submit(package("a"))
        entry, _ = await begin(worker)
        assert await port.answer("a", 1, "yes") == "unknown"
        await worker.emit("a", 1, [question(1)])
        assert (await worker.beat(entry, 1)).answers == {}
        end = DelegationEvent(task_id="a", attempt=1, seq=2, kind="final")
        await worker.emit("a", 1, [end], finish=True)
        assert await port.answer("a", 1, "yes") == "ended"


async def test_whoever_takes_the_task_over_has_the_question_and_its_answer(
    settings: BusSettings, package: MakePackage
) -> None:
    settings = replace(settings, stored_events=2)
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        await begin(worker)
        await worker.emit("a", 1, [question(1)])
        for seq in range(2, 8):
            event = DelegationEvent(task_id="a", attempt=1, seq=seq, kind="partial", text=str(seq))
            await worker.emit("a", 1, [event])
            await port.acknowledge("a", seq)
        assert await port.answer("a", 1, "yes") == "stored"
        async with open_worker_port(settings) as other:
            _, begun = await begin(other)
    assert begun.attempt == 2
    assert begun.answers == {1: "yes"}
    assert begun.emitted[0] == question(1)


async def test_only_the_process_that_has_the_session_can_answer(
    settings: BusSettings, package: MakePackage
) -> None:
    async with (
        open_delegation_port(settings) as first,
        open_delegation_port(settings) as second,
        open_worker_port(settings) as worker,
    ):
        await first.submit(package("a"))
        entry, _ = await begin(worker)
        await worker.emit("a", 1, [question(1)])
        await second.reopen("session")
        assert await first.answer("a", 1, "yes") == "moved"
        assert await second.answer("a", 1, "no") == "stored"
        assert (await worker.beat(entry, 1)).answers == {1: "no"}


async def test_an_answer_of_which_the_reply_is_lost_is_stored_once(
    settings: BusSettings, package: MakePackage
) -> None:
    with FaultyLink(settings.url) as link:
        async with (
            open_delegation_port(replace(settings, url=link.url)) as port,
            open_worker_port(settings) as worker,
        ):
            await port.submit(package("a"))
            entry, _ = await begin(worker)
            await worker.emit("a", 1, [question(1)])
            link.set(Faults(drop_every=1, limit=2))
            assert await port.answer("a", 1, "yes") == "stored"
            assert (await worker.beat(entry, 1)).answers == {1: "yes"}
            assert (await worker.beat(entry, 1)).answers == {}


async def test_an_answer_is_kept_where_too_much_waits_to_be_sent(
    settings: BusSettings, package: MakePackage
) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry, _ = await begin(worker)
        await worker.emit("a", 1, [question(1), question(2)])
        # No other task runs between these calls, so nothing is sent meanwhile.
        while port.cancel_nowait("none", "reason"):
            pass
        assert not port.update_nowait("a", "refused: there is no room")
        port.answer_nowait("a", 1, "no")
        port.answer_nowait("a", 2, "the red one")
        port.answer_nowait("a", 1, "yes")
        with anyio.fail_after(10):
            await port.flush()
        assert (await worker.beat(entry, 1)).answers == {1: "yes", 2: "the red one"}


async def test_an_answer_outlasts_an_outage_of_the_server(
    settings: BusSettings, package: MakePackage
) -> None:
    with FaultyLink(settings.url) as link:
        async with (
            open_delegation_port(replace(settings, url=link.url)) as port,
            open_worker_port(settings) as worker,
        ):
            await port.submit(package("a"))
            entry, _ = await begin(worker)
            await worker.emit("a", 1, [question(1)])
            link.set(Faults(cut=True))
            port.answer_nowait("a", 1, "yes")
            await anyio.sleep(0.3)
            assert (await worker.beat(entry, 1)).answers == {}
            link.set(Faults())
            with anyio.fail_after(10):
                await port.flush()
            assert (await worker.beat(entry, 1)).answers == {1: "yes"}


async def test_a_very_long_answer_is_cut(settings: BusSettings, package: MakePackage) -> None:
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        await port.submit(package("a"))
        entry, _ = await begin(worker)
        await worker.emit("a", 1, [question(1)])
        await port.answer("a", 1, "x" * 100_000)
        assert (await worker.beat(entry, 1)).answers == {1: "x" * ANSWER_CHARACTERS}


async def test_notes_that_are_no_answers_are_passed_over() -> None:
    spoilt = ['{"answer": 1}', '{"answer": {"seq": "1", "text": "yes"}}', '{"answer": {"seq": 1}}', "[]", "{"]
    assert read_notes([*spoilt, answer_note(3, "yes")]).answers == {3: "yes"}
