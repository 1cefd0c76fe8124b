"""Telemetry of a program: what its options and its environment ask for, opened together and closed in order."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from typing import Final

from microturn.runtime._errors import ViewerRefusedError
from microturn.runtime.bus.settings import BusSettings
from microturn.runtime.events import Observer
from microturn.runtime.telemetry.queue_gauges import queue_gauges
from microturn.runtime.telemetry.session_telemetry import SessionTelemetry
from microturn.runtime.telemetry.settings import (
    ENDPOINT_VARIABLE,
    METRICS_PORT_VARIABLE,
    TRACE_VARIABLE,
    TRACES_ENDPOINT_VARIABLE,
    TelemetrySettings,
)
from microturn.runtime.telemetry.setup import open_telemetry
from microturn.runtime.telemetry.tick_metrics import TickMetrics
from microturn.runtime.telemetry.viewer import trace_viewer
from microturn.runtime.telemetry.watchdog import LoopWatchdog, watched_loop

RUNTIME_SERVICE: Final = "microturn-runtime"
WORKER_SERVICE: Final = "microturn-worker"
"""`service.name` of the two kinds of processes."""


class ProcessTelemetry:
    """What the sessions of a process, on one host, are measured with; made by `process_telemetry`."""

    def __init__(self, watchdog: LoopWatchdog | None, *, has_metrics: bool) -> None:
        self._watchdog = watchdog
        self._ticks = TickMetrics()
        self._has_metrics = has_metrics

    def begin(self) -> None:
        """Say that all is loaded; what holds the event loop from now on is told. A session says so by itself."""
        if self._watchdog is not None:
            self._watchdog.arm()

    @contextmanager
    def session(self, session_id: str) -> Iterator[tuple[Observer, ...]]:
        """Measure a session in the block; yields its observers, none where no telemetry is wanted."""
        if self._watchdog is None:
            yield ()
            return
        self.begin()
        session = SessionTelemetry(session_id, ticks=self._ticks, watchdog=self._watchdog)
        with session.watching():
            yield (session,)

    def queue(self, settings: BusSettings) -> AbstractAsyncContextManager[object]:
        """Measure the queue of a bus in the block, where metrics are wanted."""
        return queue_gauges(settings) if self._has_metrics else nullcontext()


@asynccontextmanager
async def process_telemetry(
    service: str, *, trace: bool, metrics_port: int | None, say: Callable[[str], None]
) -> AsyncIterator[ProcessTelemetry]:
    """Open telemetry until the end of the block, for this process and, by the environment, for those it starts.

    With `trace` spans are kept on this disk and, unless the environment names a collector, shown by a viewer beside this
    process; where the system does not let that run in safety, it is said, and they are kept on the disk alone. Without anything wanted, here or in the environment, nothing is opened.

    Args:
        service: `service.name` of the process.
        trace: whether the user asked for traces.
        metrics_port: where Prometheus is to find metrics; None where the environment alone decides.
        say: called with a sentence for the user.

    Raises:
        MissingExtraError: what is wanted is not installed.
        UnavailableError: the viewer did not start.
        UserError: the port for Prometheus is taken, or is no port.
    """
    async with AsyncExitStack() as stack:
        wanted: dict[str, str] = {}
        if metrics_port is not None:
            wanted[METRICS_PORT_VARIABLE] = str(metrics_port)
        if trace:
            wanted[TRACE_VARIABLE] = "1"
            if not _has_collector():
                wanted |= await _show_traces(stack, say)
        stack.enter_context(_in_environment(wanted))
        settings = TelemetrySettings.from_environment(os.environ, service)
        stack.enter_context(open_telemetry(settings))
        watchdog = await stack.enter_async_context(watched_loop()) if settings.is_wanted else None
        yield ProcessTelemetry(watchdog, has_metrics=settings.has_metrics)


async def _show_traces(stack: AsyncExitStack, say: Callable[[str], None]) -> dict[str, str]:
    """Start the viewer, and return the variables that have spans sent to it; none where it may not run here."""
    try:
        address = await stack.enter_async_context(trace_viewer())
    except ViewerRefusedError as error:
        say(
            f"traces are kept but not shown, as {error.reason}: look at them with `microturn delegation show`"
        )
        return {}
    say(f"traces are shown at {address}")
    return {TRACES_ENDPOINT_VARIABLE: f"{address}/v1/traces"}


def environment_of_child(environment: dict[str, str]) -> dict[str, str]:
    """The environment for a worker beside this process: its metrics have the next port, as each port is one process's."""
    port = environment.get(METRICS_PORT_VARIABLE)
    if not port or port == "0" or not port.isdecimal():
        return environment
    return {**environment, METRICS_PORT_VARIABLE: str(int(port) + 1)}


def _has_collector() -> bool:
    return any(os.environ.get(name) for name in (ENDPOINT_VARIABLE, TRACES_ENDPOINT_VARIABLE))


@contextmanager
def _in_environment(wanted: dict[str, str]) -> Iterator[None]:
    """Set variables in the block, where exporters and child processes read them."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
