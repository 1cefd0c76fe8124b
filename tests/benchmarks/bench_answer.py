"""How soon a task knows what its user said: an answer that it waits for, and a cancel while a tool runs.

    python tests/benchmarks/bench_answer.py [--rounds 100] [--url URL]

Over one real server, in one process: from `answer_nowait` to the return of the tool's `ask`, and from `cancel_nowait`
to the cancellation inside the tool, each beside the bare round trip of the script that stores it. Then what waiting for
an answer costs: processor time of the worker for each second that it waits. All clocks are the machine's one monotonic
clock. Prints a table, and as the last line all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import anyio

from microturn.background_agent import Control, Emit
from microturn.background_agent.attempt import Attempt
from microturn.background_agent.questions import Questions
from microturn.background_agent.transcript import Call
from microturn.background_agent.work_clock import WorkClock
from microturn.protocols import ContextPackage, DelegationEvent
from microturn.runtime.bus import (
    BusSettings,
    DelegationPort,
    EmbeddedServer,
    WorkerPort,
    open_delegation_port,
    open_worker_port,
)
from microturn.tools import ToolRegistry

WAITS_S = 3.0
"""How long the cost of waiting is measured."""
Figures = dict[str, list[float]]


class Waits:
    """An engine that asks, or runs until it is cancelled, and notes when it was told."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.told_s = 0.0

    async def run(self, package: ContextPackage, tools: ToolRegistry, emit: Emit, control: Control) -> None:
        if package.intent == "ask":
            await Questions(emit, control, WorkClock()).ask("Which one?", "tool", Call(0, "ask", {}), 0, 60.0)
            self.told_s = time.monotonic()
            await emit("final")
            return
        await emit("progress", text="running")
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.told_s = time.monotonic()


def package(number: int, intent: str) -> ContextPackage:
    return ContextPackage(
        task_id=f"{intent}-{number}",
        session_id="bench",
        idempotency_key=f"{intent}-{number}",
        intent=intent,
        said_start_ms=0,
        said_end_ms=2000,
        local_time="2026-01-01T12:00:00+00:00",
        deadline_s=120,
    )


async def question_of(port: DelegationPort, task_id: str) -> int:
    """Wait for a task's question and return its number."""
    async for event in port.events():
        if isinstance(event, DelegationEvent):
            port.acknowledge_nowait(event.task_id, event.seq)
            if event.task_id == task_id and event.is_question:
                return event.seq
    raise RuntimeError("the port was closed before the question came")


async def one_round(port: DelegationPort, worker: WorkerPort, task: ContextPackage, pause_s: float) -> float:
    """Run one task to the moment at which it is told; how long that took, in milliseconds."""
    await port.submit(task)
    entry = await worker.take()
    begun = await worker.begin(entry)
    assert begun is not None
    engine = Waits()
    async with anyio.create_task_group() as tasks:
        attempt = Attempt(worker, entry, begun, lease_s=2.0, backlog_limit=500)
        tasks.start_soon(attempt.run, engine, ToolRegistry())
        if task.intent == "ask":
            seq = await question_of(port, task.task_id)
            await anyio.sleep(pause_s)
            said_s = time.monotonic()
            port.answer_nowait(task.task_id, seq, "the red one")
        else:
            await engine.began.wait()
            await anyio.sleep(pause_s)
            said_s = time.monotonic()
            port.cancel_nowait(task.task_id, "enough")
    return (engine.told_s - said_s) * 1000


async def round_trips(port: DelegationPort, rounds: int) -> list[float]:
    """How long the script of an answer takes to be stored, of a task that is not there."""
    took = []
    for _ in range(rounds):
        began_s = time.monotonic()
        await port.answer("nobody", 1, "yes")
        took.append((time.monotonic() - began_s) * 1000)
    return took


async def cost_of_waiting(port: DelegationPort, worker: WorkerPort) -> float:
    """Processor time for each second that one task waits for its answer, in milliseconds; runtime and worker together."""
    await port.submit(package(0, "ask"))
    entry = await worker.take()
    begun = await worker.begin(entry)
    assert begun is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            Attempt(worker, entry, begun, lease_s=2.0, backlog_limit=500).run, Waits(), ToolRegistry()
        )
        seq = await question_of(port, "ask-0")
        used_s = time.process_time()
        await anyio.sleep(WAITS_S)
        used_s = time.process_time() - used_s
        await port.answer("ask-0", seq, "yes")
    return used_s * 1000 / WAITS_S


async def measure(url: str, rounds: int) -> Figures:
    settings = BusSettings(url, tenant="bench-answer")
    figures: Figures = {"answer_ms": [], "cancel_ms": []}
    async with open_delegation_port(settings) as port, open_worker_port(settings) as worker:
        figures["round_trip_ms"] = await round_trips(port, rounds)
        figures["waiting_cpu_ms_per_s"] = [await cost_of_waiting(port, worker)]
        for number in range(1, rounds + 1):
            pause_s = 0.1 + 0.4 * number / rounds  # so that no rhythm of the beats fits the bench's
            for intent in ("ask", "run"):
                took_ms = await one_round(port, worker, package(number, intent), pause_s)
                figures["answer_ms" if intent == "ask" else "cancel_ms"].append(took_ms)
    return figures


def table(figures: Figures) -> Sequence[str]:
    lines = [f"{'':24}{'median':>10}{'p95':>10}{'worst':>10}"]
    for name, values in figures.items():
        p95 = sorted(values)[int(0.95 * (len(values) - 1))]
        lines.append(f"{name:24}{statistics.median(values):10.1f}{p95:10.1f}{max(values):10.1f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--url", default=None)
    arguments = parser.parse_args()
    with ExitStack() as ends:
        url = arguments.url
        if url is None:
            folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
            url = ends.enter_context(EmbeddedServer(folder)).url
        figures = anyio.run(measure, url, arguments.rounds)
    print("\n".join(table(figures)))
    print(json.dumps({name: round(statistics.median(values), 2) for name, values in figures.items()}))


if __name__ == "__main__":
    main()
