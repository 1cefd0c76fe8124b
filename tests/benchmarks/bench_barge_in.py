"""Measures how soon the assistant falls silent when it is interrupted, and whether a backchannel lets it go on.

    python tests/benchmarks/bench_barge_in.py

Labelled interruptions and backchannels are spoken into a long answer, each at another place of the micro-turn, on a
virtual clock. Silence is measured in the played sound: from the labelled beginning of the user's speech to the last
sample above -50 dBFS before half a second of silence.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import numpy as np
from clip_player import ClipPlayer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from turn_set import FOLDER, Clip, load_turn_set

from microturn.interaction_model import InteractionModel
from microturn.interaction_model.cascade import load_cascade
from microturn.protocols import MICRO_TURN_MS, OUTPUT_RATE_HZ, ContextPackage, Samples, Speech
from microturn.runtime.beat import Tick
from microturn.runtime.clock import VirtualClock
from microturn.runtime.events import BargedIn, SessionEvent
from microturn.runtime.host import Host
from microturn.runtime.session import Session
from microturn.runtime.testing import Result, ScriptedBackground

ANSWER = " ".join(
    f"Part {n} of this long answer goes on and on about ships and harbours and the people who work there without a "
    "pause for breath until every one of them has been named and thanked and sent home again."
    for n in range(1, 5)
)
PLAY_AT_TICK = 14
"""About a second and a half into the answer."""
TICKS = 70
AUDIBLE = 10 ** (-50 / 20)
HALF_SECOND = OUTPUT_RATE_HZ // 2


@dataclass(slots=True)
class Ear:
    """A tap that keeps what was played."""

    parts: list[Samples] = field(default_factory=list)

    def heard(self, audio: Samples) -> None:
        """Not needed."""

    def played(self, audio: Samples) -> None:
        """Keep it."""
        self.parts.append(audio)

    def silence_after_ms(self, session_ms: float) -> float | None:
        """From a session time on, how long it is until half a second of silence begins; None if none does."""
        sound = np.concatenate(self.parts)
        begin = int((session_ms - MICRO_TURN_MS) * OUTPUT_RATE_HZ / 1000)
        loud = np.flatnonzero(np.abs(sound[begin:]) > AUDIBLE)
        ends = [*loud, len(sound) - begin + HALF_SECOND]
        last = -1
        for position in ends:
            if position - last > HALF_SECOND:
                return (
                    (last + 1) * 1000 / OUTPUT_RATE_HZ
                    if last + 1 + HALF_SECOND <= len(sound) - begin
                    else None
                )
            last = int(position)
        return None


def answer(_: ContextPackage) -> Sequence[Result]:
    """A long answer to whatever is asked."""
    return [Result(100, "final", Speech(text=ANSWER))]


@dataclass(frozen=True, slots=True)
class Interruption:
    """What came of a clip that was spoken into the answer."""

    silence_ms: float | None
    """From the beginning of the user's speech to the assistant's silence; None if it went on."""
    yielded: bool
    """Whether the assistant gave up the floor for good."""


async def interrupt(model: InteractionModel, clip: Clip, folder: Path, number: int) -> Interruption:
    """Speak a clip into the answer; the number decides where in the answer and in the micro-turn."""
    host = Host(model, VirtualClock())
    player, ear = ClipPlayer(folder), Ear()
    events: list[SessionEvent] = []
    port = ScriptedBackground(answer, host.beat.session_ms)
    session = Session(clip.id, player, port, observers=[events.append])
    host.add(session, taps=[ear])
    session.type("Please explain the history of the Suez Canal to me.")

    def until(tick: Tick) -> bool:
        if tick.index == PLAY_AT_TICK + number % 11:
            player.play(clip, after_ms=number * 67 % MICRO_TURN_MS)
        return tick.index >= TICKS

    await host.run(until=until)
    host.remove(session.session_id)
    yielded = any(isinstance(event, BargedIn) for event in events)
    return Interruption(ear.silence_after_ms(player.played[0].begin_ms), yielded)


async def measure(model: InteractionModel) -> dict[str, float | int]:
    """Measure all clips; return the figures."""
    turn_set = load_turn_set()
    clips = turn_set.of("barge_in")
    console = Console(stderr=True)
    silences: list[float] = []
    ignored = 0
    for number in track(range(3 * len(clips)), "barge-ins", console=console, transient=True):
        found = await interrupt(model, clips[number % len(clips)], FOLDER, number)
        ignored += not found.yielded
        silences += [] if found.silence_ms is None else [found.silence_ms]
    backchannels = turn_set.of("backchannel")
    yielded = 0
    for number, clip in enumerate(track(backchannels, "backchannels", console=console, transient=True)):
        yielded += (await interrupt(model, clip, FOLDER, number)).yielded
    return {
        "barge_ins": 3 * len(clips),
        "barge_in_ignored": ignored,
        "barge_in_silence_p50_ms": round(float(np.percentile(silences, 50))),
        "barge_in_silence_p95_ms": round(float(np.percentile(silences, 95))),
        "barge_in_silence_max_ms": round(max(silences)),
        "backchannels": len(backchannels),
        "backchannels_that_stopped_it": yielded,
    }


def main() -> None:
    """Run the benchmark."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    model = load_cascade()
    try:
        figures = anyio.run(measure, model)
    finally:
        model.close()
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
