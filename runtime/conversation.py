"""One conversation from beginning to end: a session with its sound, its recording and what is seen of it.

Everything that was opened is closed again however the conversation ends, Ctrl-C included: the recording and the
timeline hold what there was until then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from microturn.interaction_model import InteractionModel
from microturn.protocols import UserError
from microturn.runtime._errors import AudioDeviceError
from microturn.runtime.audio_device import device_names, open_devices
from microturn.runtime.audio_file import open_recording
from microturn.runtime.beat import PERIOD_S, Tick
from microturn.runtime.bus import UnknownSessionError
from microturn.runtime.bus.keys import checked_name
from microturn.runtime.clock import Clock, VirtualClock, WallClock
from microturn.runtime.events import Observer
from microturn.runtime.host import Host
from microturn.runtime.hub import Hub
from microturn.runtime.ingress import Ingress, Source
from microturn.runtime.player import Player, Tap
from microturn.runtime.recorder import StereoRecorder
from microturn.runtime.reopened import Reopened
from microturn.runtime.session import Session
from microturn.runtime.session_port import SessionPort
from microturn.runtime.summary import Summary
from microturn.runtime.timeline import Timeline
from microturn.runtime.typist import QUIET_TICKS, Typist
from microturn.runtime.weave_policy import WeavePolicy

LINGER_S = 120.0
"""How long after the end of a recording the conversation goes on at most, for results that are still to come."""


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
    session_id: str | None = None
    """The session that it is; one that the bus remembers is taken over. None for a new one."""

    def check(self) -> None:
        """Find out what is wrong with it before anything is loaded or started. Blocks for some milliseconds.

        Raises:
            UserError: a file cannot be read or written, one file would be both read and written, or the session
                has an id that it cannot have.
            UnavailableError: there is no microphone or no loudspeaker, or a package is not installed.
        """
        if self.session_id is not None:
            checked_name("session id", self.session_id)
        if self.input is not None:
            open_recording(self.input, ahead=False).close()
        elif self.typed is None:
            _check_devices()
        if self.output is not None:
            StereoRecorder(self.output)
            _check_place("record to", self.output)
        if self.timeline is not None:
            _check_place("draw the timeline into", self.timeline)
        places = [each.resolve() for each in (self.input, self.output, self.timeline) if each is not None]
        if len(places) > len(set(places)):
            raise UserError(
                "cannot use one file for two things: the input, the output and the timeline need names of their own"
            )


class Conversation:
    """Holds one conversation. `summary` and the files are complete when `hold` has ended, however it ended."""

    def __init__(
        self, setting: Setting, observers: Sequence[Observer] = (), *, policy: WeavePolicy | None = None
    ) -> None:
        """Begin nothing yet.

        Args:
            setting: where it takes place.
            observers: called with every `SessionEvent`.
            policy: when results are said; `NaturalPause` unless given.

        Raises:
            MissingExtraError: a timeline is wanted and matplotlib is not installed.
        """
        self.setting = setting
        self.session_id = setting.session_id or uuid4().hex
        """By which it can be taken over should this process die."""
        self._policy = policy
        self.summary = Summary()
        self.warnings: list[str] = []
        """Sentences on what may have spoiled it, known at the end."""
        self._timeline = Timeline() if setting.timeline is not None else None
        self._typist = Typist(setting.typed) if setting.typed is not None else None
        own = (self.summary, self._timeline, self._typist)
        self._observers: list[Observer] = [*(each for each in own if each is not None), *observers]

    async def hold(self, model: InteractionModel, hub: Hub, *, observers: Sequence[Observer] = ()) -> None:
        """Talk until the recording is over and all is said, the typing ends, or this is cancelled.

        Then the session is over: what it still had to say is not said any more. Only a session whose process died,
        or that another process takes over, goes on elsewhere. `observers` are called beside those from the beginning.

        Raises:
            BusUnreachableError: the session is to be taken over, and the server does not answer.
            SessionTakenError: another process has taken it over at the same time.
            AudioFileError: the recording cannot be read or written.
            AudioDeviceError: there is no microphone or no loudspeaker, or one of them was lost.
        """
        host = Host(model, self._clock(hub))
        with self._finishing() as stack:
            taps = self._taps(stack, model.fingerprint)
            source = self._source(stack)
            port, reopened = await self._joined(hub)
            stack.callback(port.close)
            reported = stack.enter_context(hub.reporter.following(self.session_id))
            session = Session(
                self.session_id,
                source,
                port,
                policy=self._policy,
                observers=[*self._observers, *observers, reported],
                reopened=reopened,
                fingerprint=model.fingerprint,
            )
            stack.callback(self._note_moved, session)
            player = self._player(stack, source, session, taps)
            host.add(session, player=player, taps=taps)
            stack.callback(host.remove, session.session_id)
            await host.run(until=_Ending(source, session))

    async def _joined(self, hub: Hub) -> tuple[SessionPort, Reopened | None]:
        """Take over the session that was asked for, if the bus remembers it, or begin one."""
        if self.setting.session_id is None:
            return hub.port(self.session_id), None
        try:
            return await hub.reopen(self.session_id)
        except UnknownSessionError:
            return hub.port(self.session_id), None

    def _note_moved(self, session: Session) -> None:
        if session.has_moved:
            self.warnings.append("The conversation goes on in another process, which has taken it over.")

    def _clock(self, hub: Hub) -> Clock:
        if not self.setting.fast:
            return WallClock()
        typist = self._typist
        return VirtualClock(lambda: hub.is_busy or (typist is not None and typist.is_awaited))

    @contextmanager
    def _finishing(self) -> Iterator[ExitStack]:
        """Close what was opened and draw the timeline, however the conversation ends, if it has begun at all."""
        try:
            with ExitStack() as stack:
                yield stack
        finally:
            if self._typist is not None and self._typist.problem is not None:
                self.warnings.append(self._typist.problem)
            self._draw()

    def _draw(self) -> None:
        if self._timeline is None or self.setting.timeline is None or not self._timeline.record.tick_ends_ms:
            return
        self._timeline.draw(self.setting.timeline)

    def _taps(self, stack: ExitStack, fingerprint: str) -> list[Tap]:
        taps: list[Tap] = [self.summary] if self._timeline is None else [self.summary, self._timeline]
        if self.setting.output is not None:
            recorder = StereoRecorder(
                self.setting.output, wait_when_full=self.setting.fast, comment=f"microturn {fingerprint}"
            )
            taps.append(stack.enter_context(recorder))
            stack.callback(self._note_lost, recorder)
        return taps

    def _note_lost(self, recorder: StereoRecorder) -> None:
        if recorder.dropped_samples:
            self.warnings.append("The disk was too slow for the recording; parts of it are silent.")

    def _source(self, stack: ExitStack) -> Source:
        if self.setting.input is None:
            return Ingress()
        recording = stack.enter_context(open_recording(self.setting.input, ahead=not self.setting.fast))
        stack.callback(lambda: self.warnings.extend(recording.warnings))
        return recording

    def _player(
        self, stack: ExitStack, source: Source, session: Session, taps: Sequence[Tap]
    ) -> Player | None:
        """Open the devices where somebody speaks, start the typist where somebody types."""
        if not isinstance(source, Ingress):
            return None
        if self._typist is None:
            return stack.enter_context(open_devices(source, session.playout, taps))
        self._typist.start(session, source)
        return None


class _Ending:
    """Tells when a conversation whose input has ended is over: all is said, nothing is awaited."""

    def __init__(self, source: Source, session: Session) -> None:
        self._source = source
        self._session = session
        self._quiet_ticks = 0
        self._ticks_left = round(LINGER_S / PERIOD_S)

    def __call__(self, tick: Tick) -> bool:
        if self._session.has_moved:
            return True
        if not self._source.ended:
            return False
        self._ticks_left -= tick.count
        self._quiet_ticks = self._quiet_ticks + 1 if self._session.is_idle else 0
        return self._quiet_ticks >= QUIET_TICKS or self._ticks_left <= 0


def _check_devices() -> None:
    names = device_names()
    missing = [
        name
        for name, there in (("microphone", names.microphones), ("loudspeaker", names.speakers))
        if not there
    ]
    if missing:
        raise AudioDeviceError(
            f"cannot talk by voice: this machine has no {' and no '.join(missing)}; connect a headset, or use "
            "`--input FILE` to play a recording or `--text` to type instead"
        )


def _check_place(doing: str, path: Path) -> None:
    """Refuse a file that could not be written.

    Raises:
        UserError: its folder is not there or cannot be written, or it is a folder itself.
    """
    if path.is_dir():
        raise UserError(f"cannot {doing} {str(path)!r}: it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(
            f"cannot {doing} {str(path)!r}: there is no folder {str(path.parent)!r}; create it, or choose another "
            "place"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(
            f"cannot {doing} {str(path)!r}: it may not be written; change its permissions, or choose another place"
        )
