"""One conversation from beginning to end: a session with its sound, its recording and what is seen of it.

Everything that was opened is closed again however the conversation ends, Ctrl-C included: the recording and the
timeline hold what there was until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from uuid import uuid4

import anyio
import anyio.to_thread

from microturn.interaction_model import InteractionModel
from microturn.runtime.audio_device import open_devices
from microturn.runtime.audio_file import open_recording
from microturn.runtime.beat import PERIOD_S, Tick
from microturn.runtime.clock import Clock, VirtualClock, WallClock
from microturn.runtime.events import Observer
from microturn.runtime.host import Host
from microturn.runtime.hub import Hub
from microturn.runtime.ingress import Ingress, Source
from microturn.runtime.player import Tap
from microturn.runtime.recorder import StereoRecorder
from microturn.runtime.session import Session
from microturn.runtime.summary import Summary
from microturn.runtime.timeline import Timeline

LINGER_S = 120.0
"""How long after the end of a recording the conversation goes on at most, for results that are still to come."""
QUIET_TICKS = 5
"""Micro-turns without anything to say or to wait for after which a recording's conversation is over."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a conversation takes place."""

    input: Path | None = None
    """A recording of the person's side; None for the microphone."""
    output: Path | None = None
    """Where to record both sides."""
    timeline: Path | None = None
    """Where to draw the timeline."""
    fast: bool = False
    """On a virtual clock, as quick as the machine."""
    typed: TextIO | None = None
    """Lines that the user types; no sound is heard."""


class Conversation:
    """Holds one conversation. `summary` and the files are complete when `hold` has ended, however it ended."""

    def __init__(self, setting: Setting, observers: Sequence[Observer] = ()) -> None:
        self.setting = setting
        self.summary = Summary()
        self.warnings: list[str] = []
        """Sentences on what may have spoiled it, known at the end."""
        self._timeline = Timeline() if setting.timeline is not None else None
        self._observers: list[Observer] = [self.summary, *observers]
        if self._timeline is not None:
            self._observers.append(self._timeline)

    async def hold(self, model: InteractionModel, hub: Hub) -> None:
        """Talk until the recording is over and all is said, the typing ends, or this is cancelled.

        Raises:
            AudioFileError: the recording cannot be read or written.
            AudioDeviceError: there is no microphone or no loudspeaker.
        """
        clock: Clock = VirtualClock(lambda: hub.is_busy) if self.setting.fast else WallClock()
        host = Host(model, clock)
        with self._finishing() as stack:
            taps = self._taps(stack)
            source = self._source(stack)
            session = Session(uuid4().hex, source, hub.port(), observers=self._observers)
            player = None
            if self.setting.input is None and self.setting.typed is None:
                assert isinstance(source, Ingress)
                player = stack.enter_context(open_devices(source, session.playout, taps))
            host.add(session, player=player, taps=taps)
            async with anyio.create_task_group() as tasks:
                if self.setting.typed is not None and isinstance(source, Ingress):
                    tasks.start_soon(_type_lines, self.setting.typed, session, source, name="typing")
                await host.run(until=_Ending(source, session))
                tasks.cancel_scope.cancel()

    @contextmanager
    def _finishing(self) -> Iterator[ExitStack]:
        """Close what was opened and draw the timeline, however the conversation ends."""
        try:
            with ExitStack() as stack:
                yield stack
        finally:
            if self._timeline is not None and self.setting.timeline is not None:
                self._timeline.draw(self.setting.timeline)

    def _taps(self, stack: ExitStack) -> list[Tap]:
        taps: list[Tap] = [self.summary] if self._timeline is None else [self.summary, self._timeline]
        if self.setting.output is not None:
            recorder = StereoRecorder(self.setting.output, wait_when_full=self.setting.fast)
            taps.append(stack.enter_context(recorder))
        return taps

    def _source(self, stack: ExitStack) -> Source:
        if self.setting.input is None:
            return Ingress()
        recording = stack.enter_context(open_recording(self.setting.input, ahead=not self.setting.fast))
        stack.callback(lambda: self.warnings.extend(recording.warnings))
        return recording


class _Ending:
    """Tells when a conversation whose input has ended is over: all is said, nothing is awaited."""

    def __init__(self, source: Source, session: Session) -> None:
        self._source = source
        self._session = session
        self._quiet_ticks = 0
        self._ticks_left = round(LINGER_S / PERIOD_S)

    def __call__(self, tick: Tick) -> bool:
        if not self._source.ended:
            return False
        self._ticks_left -= tick.count
        self._quiet_ticks = self._quiet_ticks + 1 if self._session.is_idle else 0
        return self._quiet_ticks >= QUIET_TICKS or self._ticks_left <= 0


async def _type_lines(lines: TextIO, session: Session, source: Ingress) -> None:
    """Pass typed lines on until their end, which ends the conversation."""
    while line := await anyio.to_thread.run_sync(lines.readline, abandon_on_cancel=True):
        if line.strip():
            session.type(line.strip())
    source.close()
