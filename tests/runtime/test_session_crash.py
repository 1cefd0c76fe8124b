"""A conversation whose process is killed in the middle of a word goes on in another one where it was cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import numpy as np
import pytest
import soundfile

from microturn.protocols import DelegationEvent, SessionLedger, Speech
from microturn.runtime.bus import BusSettings, EmbeddedServer, open_delegation_port
from microturn.runtime.bus.own_tasks import own_tasks
from microturn.runtime.bus.worker_port import WorkerPort, open_worker_port

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(60)]

PROGRAM = Path(__file__).with_name("talk_program.py")
WORDS = [f"word{n}," for n in range(40)]
"""An answer of three seconds at the pace of the program, 80 ms a word."""


@contextmanager
def talking(url: str, recording: Path, lines: object = ()) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the session; killed at the end of the block."""
    arguments = ("--session", "kitchen", "--input", recording, "--no-worker", "--redis", url)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), "talk", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SCRIPT_LINES": json.dumps(lines)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def answer(worker: WorkerPort) -> None:
    """Give the long answer to the one task there is."""
    entry = await worker.take()
    begun = await worker.begin(entry)
    assert begun is not None
    task_id, seq = entry.package.task_id, begun.next_seq
    event = DelegationEvent(
        task_id=task_id, attempt=begun.attempt, seq=seq, kind="final", speech=Speech(text=" ".join(WORDS))
    )
    await worker.emit(task_id, begun.attempt, [event], finish=True)


async def ledger_when(url: str, is_so: Callable[[SessionLedger], bool]) -> SessionLedger:
    """The session's ledger once it says something."""
    async with open_delegation_port(BusSettings(url)) as port:
        with anyio.fail_after(20):
            while True:
                ledger = await port.ledger("kitchen")
                if is_so(ledger):
                    return ledger
                await anyio.sleep(0.02)


def heard(ledger: SessionLedger) -> int:
    receipts = [receipt for promise in ledger.promises for receipt in promise.receipts]
    return max((receipt.words_heard for receipt in receipts), default=0)


def woven(process: subprocess.Popen[str], last: str) -> str:
    """What a process says of the answer, once it has said a line with this word."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "assistant (woven): " in line:
            said = line.split("assistant (woven): ")[1].strip()
        if last in line:
            return said
    raise AssertionError(f"ended without {last!r}")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(20 * 16_000, np.float32), 16_000)
    return path


async def test_the_next_process_goes_on_where_the_one_that_was_killed_was_cut_off(
    redis_server: EmbeddedServer, home: Path, recording: Path
) -> None:
    url = redis_server.url
    async with open_worker_port(BusSettings(url)) as worker, own_tasks() as tasks:
        tasks.start_soon(answer, worker)
        with talking(url, recording, [[0, 400, "tell me a lot?"]]) as process:
            await anyio.to_thread.run_sync(woven, process, "woven")
            before = heard(await ledger_when(url, lambda ledger: heard(ledger) >= 12))
            process.kill()
        stored = heard(await ledger_when(url, lambda _: True))
        assert 12 <= before <= stored < len(WORDS)
        with talking(url, recording) as process:
            said = await anyio.to_thread.run_sync(woven, process, " heard ")
            after = await ledger_when(url, lambda ledger: ledger.promises[0].state != "open")
    assert said == "As I was saying: " + " ".join(WORDS[stored:])
    assert after.promises[0].state == "spoken"
    assert heard(after) == len(WORDS)
    assert after.epoch == 1
