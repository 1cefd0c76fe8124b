"""Whether the native model keeps the beat: micro-turns, sessions, senses, memory, and what fixed bits cost.

    python tests/benchmarks/bench_native.py [--folder FOLDER] [--hours 10] [--rounds 30] [PART ...]

Random weights unless a folder with trained ones is given: speed depends on sizes and on how much is emitted, which a
script decides. One thread unless a row says otherwise. Cases of one table take turns. About four minutes; prints
tables, and as the last line all figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from native_determinism import cost
from native_figures import Cell, Rows, print_table
from native_goals import goals
from native_growth import growth
from native_senses import senses
from native_stage import Stage, weights
from native_turns import one_session, several_sessions
from rich.console import Console

from microturn.interaction_model.native import checkpoint
from microturn.interaction_model.native.network import Network
from microturn.kernels.bench.machine import this_machine
from microturn.kernels.bench.report import machine_text

PROCESS = Path(__file__).with_name("native_process.py")


@dataclass(frozen=True)
class Extent:
    """What is measured, and for how long."""

    folder: Path
    """With the weights."""
    rounds: int
    """Bursts of three micro-turns of each case with one session; of several sessions a third as many."""
    minutes: int
    """Simulated, for memory."""


def turns(extent: Extent) -> Rows:
    """Micro-turns of one session."""
    return one_session(Stage.of(extent.folder, 3), extent.rounds)


def company(extent: Extent) -> Rows:
    """Micro-turns of several sessions in one step; the beat is 200 ms."""
    return several_sessions(Stage.of(extent.folder, 4), max(1, extent.rounds // 3))


def alone(extent: Extent) -> Rows:
    """Ears and eyes alone."""
    return senses(Stage.of(extent.folder, 1), _network(extent.folder), 4.0)


def context(extent: Extent) -> Rows:
    """Silent micro-turns by context, processor time."""
    config = checkpoint.read_info(extent.folder / checkpoint.NETWORK_FILE).config
    return growth(Stage.of(extent.folder, 1), config, budget_s=2.0)


def determinism(extent: Extent) -> Rows:
    """Steps beside PyTorch's own operators, 20th percentiles."""
    rows: Rows = {}
    for dtype in (torch.float32, torch.bfloat16):
        for minutes in (1, 10):
            network = _network(extent.folder)
            rows |= cost(network, dtype, minutes=minutes, budget_s=1.0)
    return rows


def process(extent: Extent) -> Rows:
    """Loading, the first time on a machine and later, and memory over simulated time."""
    with tempfile.TemporaryDirectory() as empty:
        first = _process(extent.folder, 0, {"MICROTURN_CACHE": empty})
    return {"first start on a machine": first, "later": _process(extent.folder, extent.minutes, {})}


PARTS: Mapping[str, Callable[[Extent], Rows]] = {
    "turns": turns,
    "company": company,
    "alone": alone,
    "context": context,
    "determinism": determinism,
    "process": process,
}


def main() -> None:
    """Measure and print."""
    asked = _parser().parse_args()
    _without_spinning()
    torch.set_num_threads(1)
    console = Console(width=140)
    figures: dict[str, Rows] = {}
    with weights(asked.folder) as folder:
        extent = Extent(folder, asked.rounds, round(60 * asked.hours) if asked.hours else 10)
        for name in asked.parts or PARTS:
            figures[name] = PARTS[name](extent)
            print_table(console, (PARTS[name].__doc__ or name).partition("\n")[0], figures[name])
    print_table(console, "Goals, on two cores.", goals(figures))
    machine = this_machine(torch.device("cpu"))
    console.print(machine_text(machine))
    print(json.dumps({"machine": machine.as_row(), **figures, "goals": goals(figures)}))


def _network(folder: Path) -> Network:
    """In float32, as it is served."""
    return checkpoint.load(folder / checkpoint.NETWORK_FILE).float()


def _process(folder: Path, minutes: int, environment: Mapping[str, str]) -> dict[str, Cell]:
    command = [sys.executable, str(PROCESS), str(folder), "--minutes", str(minutes)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True)
    found: dict[str, Cell] = json.loads(done.stdout.splitlines()[-1])
    return found


def _without_spinning() -> None:
    """Begin anew with threads that sleep while they wait; libraries read this when they are loaded.

    Threads that spin take the cores of those that work.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="with network.safetensors and mouth.safetensors")
    parser.add_argument("--rounds", type=int, default=30, help="bursts of three micro-turns of each case")
    parser.add_argument("--hours", type=float, default=0.0, help="simulated, for memory; else 10 minutes")
    return parser


if __name__ == "__main__":
    main()
