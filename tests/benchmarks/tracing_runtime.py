"""Sessions on a wall clock for `bench_tracing.py`: `tracing_runtime.py SESSIONS SECONDS`, telemetry by the environment.

Each session is asked something every eight seconds and delegates it; the answer comes back in three pieces. Prints one
line of JSON: of each tick, how long after it was due it was done, and the processor time of the loop's thread since the
tick before, in milliseconds; and the processor's seconds per second.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise

import anyio

from microturn.interaction_model import ModelSession, SessionConfig
from microturn.protocols import ContextPackage, Delegate, MicroTurnInput, MicroTurnOutput, Speech
from microturn.runtime.beat import PERIOD_S, Tick
from microturn.runtime.clock import WallClock
from microturn.runtime.garbage import tame_garbage_collector
from microturn.runtime.host import Host
from microturn.runtime.ingress import Ingress
from microturn.runtime.session import Session
from microturn.runtime.telemetry.process_telemetry import ProcessTelemetry, process_telemetry
from microturn.runtime.testing import Answer, Result, ScriptedBackground, ScriptedModel, UserLine

EVERY_MS = 8_000
WARM_UP_S = 2.0


class Scripts:
    """A model whose sessions each have a script of their own, so that they do not all speak at once."""

    fingerprint = "scripted"

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._models: list[ScriptedModel] = []
        self._of: dict[int, ScriptedModel] = {}

    def open(self, config: SessionConfig) -> ModelSession:
        """Begin the next script."""
        shift_ms = len(self._models) * 1_370 % EVERY_MS
        starts_ms = range(shift_ms, round(self._seconds * 1000), EVERY_MS)
        model = ScriptedModel([UserLine(ms, ms + 900, "what is it?") for ms in starts_ms], ask)
        self._models.append(model)
        session = model.open(config)
        self._of[id(session)] = model
        return session

    def step(self, inputs: Sequence[tuple[ModelSession, MicroTurnInput]]) -> list[MicroTurnOutput]:
        """Advance every session."""
        return [self._of[id(each[0])].step([each])[0] for each in inputs]

    def settle(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Nothing to give back."""


def ask(text: str) -> Answer:
    """Delegate everything."""
    return Answer("One moment.", (Delegate(text, 0, 900),))


def work(_: ContextPackage) -> Sequence[Result]:
    """Three pieces, a second apart."""
    words = "that is a part of the answer"
    return (
        Result(800, "partial", Speech(text=f"First, {words}.")),
        Result(1_600, "partial", Speech(text=f"Then, {words}.")),
        Result(2_400, "final", Speech(text=f"Last, {words}.")),
    )


async def main(sessions: int, seconds: float) -> None:
    """Run them, and print the figures."""
    host = Host(Scripts(seconds), WallClock())
    done_ms: list[float] = []
    loop_ms: list[float] = []
    began: list[tuple[float, float]] = []

    def is_over(tick: Tick) -> bool:
        passed_s = (tick.index + 1) * PERIOD_S
        if passed_s >= WARM_UP_S:
            if not began:
                began.append((time.process_time(), time.monotonic()))
            done_ms.append(host.beat.session_ms() - passed_s * 1000)
            loop_ms.append(time.thread_time() * 1000)
        return passed_s >= seconds

    telemetry = process_telemetry("bench", trace=False, metrics_port=None, say=lambda _: None)
    async with telemetry as measured:
        with ExitStack() as stack:
            for number in range(sessions):
                add(host, f"session-{number}", measured, stack)
            tame_garbage_collector()
            await host.run(until=is_over)
        cpu_s, wall_s = time.process_time() - began[0][0], time.monotonic() - began[0][1]
    spent_ms = [later - earlier for earlier, later in pairwise(loop_ms)]
    print(json.dumps({"done_ms": done_ms, "loop_ms": spent_ms, "cpu_share": cpu_s / wall_s}), flush=True)


def add(host: Host, session_id: str, measured: ProcessTelemetry, stack: ExitStack) -> None:
    """Seat one session."""
    source = Ingress()
    source.close()
    observers = stack.enter_context(measured.session(session_id))
    background = ScriptedBackground(work, host.beat.session_ms, limit=1_000)
    host.add(Session(session_id, source, background, observers=observers))


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), float(sys.argv[2]))
