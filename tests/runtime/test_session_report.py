"""What an operator sees of a session's promises, and that its words are only shown on request."""

from __future__ import annotations

import io

import anyio
import pytest
from rich.console import Console

from microturn.protocols import (
    ContextPackage,
    DelegationEvent,
    Promise,
    Receipt,
    SessionLedger,
    Speech,
)
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.bus.access import access_rules
from microturn.runtime.bus.worker_port import open_worker_port
from microturn.runtime.session_report import table, transcript
from tests.runtime.conftest import Run

pytestmark = pytest.mark.redis

SECRET = "the diagnosis is measles"


def ledger() -> SessionLedger:
    events = tuple(
        DelegationEvent(task_id="0123456789ab", attempt=1, seq=seq, kind="partial", speech=speech)
        for seq, speech in enumerate((Speech(text=SECRET), None, Speech(text="And more.")), start=1)
    )
    receipt = Receipt(
        task_id="0123456789ab", seq=1, state="interrupted", words_heard=3, words_total=4, session_ms=900
    )
    first = Promise(
        task_id="0123456789ab",
        intent="what do I have",
        state="open",
        task_state="running",
        revision=2,
        made_ms=1_000_000,
        events=events,
        receipts=(receipt,),
    )
    second = Promise(task_id="z", intent="time", state="spoken", task_state="final", made_ms=1_095_000)
    return SessionLedger(
        session_id="kitchen", runtime_id="r", epoch=1, elapsed_ms=9000, promises=(first, second)
    )


def shown(now_ms: int = 1_100_000) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(table(ledger(), now_ms))
    return out.getvalue()


def test_the_table_has_each_promise_and_piece_and_not_a_word_of_them() -> None:
    text = shown()
    assert "session kitchen: 2 promises, 1 open, taken over 1 x" in text
    first = next(line for line in text.splitlines() if "01234567" in line)
    for cell in ("100 s", "open", "running", "2 x", "1 partial interrupted 3/4"):
        assert cell in first
    assert "3 partial waiting 0/2" in text
    assert "5 s" in next(line for line in text.splitlines() if "spoken" in line)
    for word in ("diagnosis", "measles", "what", "have", "more"):
        assert word not in text


@pytest.mark.parametrize(("later_ms", "age"), [(-5000, "0 s"), (600_000, "10 min"), (9_000_000, "2.5 h")])
def test_ages_are_told_in_the_unit_that_fits(later_ms: int, age: str) -> None:
    assert age in shown(1_000_000 + later_ms)


def test_on_request_the_words_are_shown_with_a_bar_where_the_hearing_ended() -> None:
    assert list(transcript(ledger())) == [
        "01234567 asked: what do I have",
        "  1: the diagnosis is | measles",
        "  3: | And more.",
        "z asked: time",
    ]


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """As everywhere, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "120")
    return run


async def make_session(settings: BusSettings) -> None:
    """A session with one answer that nobody has heard."""
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        port.enter_nowait("kitchen", 0)
        package = ContextPackage(
            task_id="task-1",
            session_id="kitchen",
            idempotency_key="task-1",
            intent="what do I have",
            said_start_ms=0,
            said_end_ms=200,
            local_time="2026-01-01T12:00:00+00:00",
            deadline_s=30,
        )
        await port.submit(package)
        begun = await worker.begin(await worker.take())
        assert begun is not None
        event = DelegationEvent(task_id="task-1", attempt=1, seq=1, kind="final", speech=Speech(text=SECRET))
        await worker.emit("task-1", begun.attempt, [event], finish=True)


def test_a_session_of_a_process_that_is_gone_can_be_looked_into(
    run: Run, redis_server: EmbeddedServer
) -> None:
    anyio.run(make_session, BusSettings(redis_server.url, tenant="looked-into"))
    arguments = ("session", "show", "kitchen", "--redis", redis_server.url, "--tenant", "looked-into")
    done = run(*arguments)
    assert done.code == 0, done
    assert "1 promise, 1 open" in done.out
    assert "1 final waiting 0/4" in done.out
    assert "measles" not in done.out
    assert f"1: | {SECRET}" in run(*arguments, "--words").out


def test_a_session_that_nobody_knows_is_one_clear_sentence(run: Run, redis_server: EmbeddedServer) -> None:
    done = run("session", "show", "nothing", "--redis", redis_server.url)
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "cannot find the session 'nothing'" in done.err


def test_an_id_that_no_session_can_have_is_refused_before_anything_is_started(
    run: Run,
) -> None:
    done = run("talk", "--session", "no spaces", "--text")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "'no spaces'" in done.err


def test_the_rules_for_a_tenant_are_printed_as_one_line_that_can_be_pasted(run: Run) -> None:
    done = run("bus", "rules", "acme")
    assert done.code == 0
    assert done.out == access_rules("acme") + "\n"
    refused = run("bus", "rules", "a*b")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "'a*b'" in refused.err


def test_help_names_what_can_be_shown(run: Run) -> None:
    assert "show" in run("session", "--help").out
    assert "--session" in run("talk", "--help").out
