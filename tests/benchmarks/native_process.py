"""One process that serves the native model: how long it takes to load, and how its memory is over hours of a session.

    python tests/benchmarks/native_process.py FOLDER [--minutes 10]

Minutes are simulated, as fast as they go: sound all the time, and in the last fifth of each minute words, pictures and
the mouth. Memory is looked at after each minute, from where the window of ten minutes is full. Prints a line of JSON.
"""

from __future__ import annotations

import time

BEGAN_S = time.perf_counter()

import argparse
import json
import statistics
from pathlib import Path

import psutil
from native_figures import Cell
from native_stage import HEARD, SAID, Stage, given, pictures

from microturn.interaction_model.native.session import NativeSession
from microturn.interaction_model.native.state_window import StateWindow

TURNS_A_MINUTE = 300
LIVELY_TURNS = 60


def main() -> None:
    """Load, play, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, default=10)
    asked = parser.parse_args()
    imported_s = time.perf_counter()
    stage = Stage.of(asked.folder, sessions=1)
    loaded_s = time.perf_counter()
    figures: dict[str, Cell] = {
        "import_s": round(imported_s - BEGAN_S, 2),
        "load_s": round(loaded_s - imported_s, 2),
        "loaded_mb": _memory_mb(),
    }
    if asked.minutes:
        figures |= _hours(stage, asked.minutes)
    print(json.dumps(figures))


def _hours(stage: Stage, minutes: int) -> dict[str, Cell]:
    session = stage.opened("long", StateWindow().tokens)
    memory_mb, step_ms = [], []
    for minute in range(minutes + 1):
        step_ms.append(_minute_ms(stage, session, minute))
        memory_mb.append(_memory_mb())
    return {
        "minutes": minutes,
        "tokens": session.state.length,
        "first_mb": memory_mb[0],
        "last_mb": memory_mb[-1],
        "most_mb": max(memory_mb),
        "step_first_ms": round(step_ms[1], 2),
        "step_last_ms": round(step_ms[-1], 2),
    }


def _minute_ms(stage: Stage, session: NativeSession, minute: int) -> float:
    """Play a minute: the median time of its silent micro-turns, in milliseconds."""
    took_ms, frames = [], pictures(160, 120)
    for number in range(TURNS_A_MINUTE):
        turn = minute * TURNS_A_MINUTE + number
        is_lively = number >= TURNS_A_MINUTE - LIVELY_TURNS
        words = (SAID[turn % len(SAID)],) if turn % 2 else (HEARD[turn % len(HEARD)],)
        stage.emitter.script = words if is_lively else ()
        began_s = time.perf_counter()
        stage.model.step([(session, given(turn, frames if is_lively else ()))])
        if not is_lively:
            took_ms.append(1000 * (time.perf_counter() - began_s))
    return statistics.median(took_ms)


def _memory_mb() -> float:
    resident: int = psutil.Process().memory_info().rss
    return round(resident / 1e6, 1)


if __name__ == "__main__":
    main()
