"""The host: one beat, one model, and the sessions that live on them.

The event loop only ever waits for the beat and for the model's step, which runs on a thread of its own.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt

from microturn.interaction_model import InteractionModel, ModelSession, SessionConfig
from microturn.protocols import Frame, MicroTurnInput, MicroTurnOutput
from microturn.runtime.beat import Beat, Tick
from microturn.runtime.clock import Clock
from microturn.runtime.events import TickDone
from microturn.runtime.player import PacedPlayer, Player, Tap
from microturn.runtime.session import Session

T = TypeVar("T")


@dataclass(slots=True)
class _Seat:
    """A session on the host."""

    session: Session
    model_session: ModelSession
    player: Player
    taps: tuple[Tap, ...]
    runtime_s: float = field(default=0.0)
    """What the runtime itself spent on it in the current step."""


class Host:
    """Runs sessions on a beat until told to stop.

    Sessions may be added and removed between ticks, from the event loop's thread.
    """

    def __init__(self, model: InteractionModel, clock: Clock) -> None:
        self.model = model
        self.beat = Beat(clock)
        self._seats: dict[str, _Seat] = {}
        self._model_turn = anyio.CapacityLimiter(1)

    def add(
        self,
        session: Session,
        *,
        config: SessionConfig | None = None,
        player: Player | None = None,
        taps: Sequence[Tap] = (),
    ) -> None:
        """Begin to run a session. The model opens its half; the player is `PacedPlayer` unless given."""
        model_session = self.model.open(config or SessionConfig(session.session_id))
        seat = _Seat(session, model_session, player or PacedPlayer(session.playout, tuple(taps)), tuple(taps))
        self._seats[session.session_id] = seat

    def remove(self, session_id: str) -> None:
        """Stop running a session and close the model's half of it."""
        self._seats.pop(session_id).model_session.close()

    def see(self, session_id: str, pixels: npt.NDArray[np.uint8]) -> bool:
        """Let a session see a camera frame that was taken now. Never waits; may be called from any thread.

        False where there is no such session, as after its end. Ten frames a second are as good as more, and 160 x 120
        pixels are what the native model looks at; it makes larger ones smaller.

        Args:
            session_id: the session.
            pixels: RGB, shape `(height, width, 3)`; they are copied.

        Raises:
            BadFrameError: they are no RGB picture.
        """
        seat = self._seats.get(session_id)
        if seat is not None:
            seat.session.see(Frame(round(self.beat.session_ms()), pixels))
        return seat is not None

    async def run(self, until: Callable[[Tick], bool] = lambda _: False) -> None:
        """Beat until `until(tick)` is true after a step, or cancelled."""
        async for tick in self.beat.ticks():
            await self._step(tick)
            if until(tick):
                return

    async def _step(self, tick: Tick) -> None:
        seats = list(self._seats.values())
        inputs = [(seat.model_session, self._prepare(seat, tick)) for seat in seats]
        began = time.perf_counter()
        if self.beat.clock.is_virtual:
            await self._on_model_thread(self.model.settle)
        outputs: list[MicroTurnOutput] = await self._on_model_thread(
            functools.partial(self.model.step, inputs)
        )
        step_s = time.perf_counter() - began
        for seat, (_, given), output in zip(seats, inputs, outputs, strict=True):
            self._absorb(seat, output)
            self._observe(seat, tick, given, step_s)

    def _prepare(self, seat: _Seat, tick: Tick) -> MicroTurnInput:
        began = time.perf_counter()
        self._advance(seat)
        given = seat.session.prepare(tick)
        for tap in seat.taps:
            tap.heard(given.audio)
        seat.runtime_s = time.perf_counter() - began
        return given

    def _absorb(self, seat: _Seat, output: MicroTurnOutput) -> None:
        began = time.perf_counter()
        self._advance(seat)
        seat.session.absorb(output)
        seat.runtime_s += time.perf_counter() - began

    def _advance(self, seat: _Seat) -> None:
        seat.player.advance(self.beat.session_ms())
        seat.session.after_playing()

    def _observe(self, seat: _Seat, tick: Tick, given: MicroTurnInput, step_s: float) -> None:
        seat.session.observe(
            TickDone(
                index=tick.index,
                count=tick.count,
                step_ms=step_s * 1000,
                runtime_ms=seat.runtime_s * 1000,
                lateness_ms=tick.lateness_s * 1000,
                floor=seat.session.floor,
                heard_peak=float(np.abs(given.audio).max(initial=0.0)),
            )
        )

    async def _on_model_thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._model_turn)
