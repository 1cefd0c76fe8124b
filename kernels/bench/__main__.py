"""Measures the operators on this machine and puts the hardware's floor and the alternatives beside every figure.

    python -m microturn.kernels.bench                     what this machine can show: CPU figures, and the GPU's goals
    python -m microturn.kernels.bench cpu [--quick]       our operators beside PyTorch's own, taking turns
    python -m microturn.kernels.bench gpu census          which matrix products give a row the same bits in every batch
    python -m microturn.kernels.bench gpu correctness     our operators on the device: right, and the same bits
    python -m microturn.kernels.bench gpu final           our operators beside cuBLAS, SDPA, grouped products; a layer

Times are in microseconds, as 20th, 50th and 80th percentile. On a shared machine read the 20th and the ratios. Every
result of `gpu` is a line in OUT/NAME.jsonl as soon as it is known. `gpu ... --dry-run` goes through the same steps on
the CPU with tiny sizes, whose times mean nothing. To choose tiles: python -m microturn.kernels.tune.sweep --help.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from microturn.kernels.bench import report
from microturn.kernels.bench.figure import Figure
from microturn.kernels.bench.machine import this_machine
from microturn.kernels.bench.progress import steps_shown
from microturn.kernels.bench.targets import GPU_TARGETS

GPU_PARTS = ("census", "correctness", "final")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if all went well, 1 if a check was wrong or a step broke, 2 without the device it needs."""
    options = _parser().parse_args(arguments)
    _restart_with(_wanted_environment(options))
    torch.set_num_threads(options.threads)
    if options.part == "gpu":
        return _gpu(options)
    if options.part is None:
        _say(
            f"CUDA device: {'yes' if torch.cuda.is_available() else 'none; the goals below were not measured'}\n\n"
        )
        _say(report.target_table(GPU_TARGETS) + "\n")
    return _cpu(options)


def _cpu(options: argparse.Namespace) -> int:
    # The operators are loaded only now, after the environment has been settled.
    from microturn.kernels.bench import cpu

    is_quick = options.part is None or options.quick
    figures: list[Figure] = []
    for _, step in steps_shown(cpu.cpu_steps(cpu.QUICK if is_quick else cpu.FULL)):
        figures.extend(step())
    _finish(options, figures, torch.device("cpu"))
    return 0


def _gpu(options: argparse.Namespace) -> int:
    if not options.dry_run and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device was found; --dry-run goes through the steps without one\n")
        return 2
    # Needs Triton, which a machine that only measures its CPU may lack.
    from microturn.kernels.bench import census, correctness, final
    from microturn.kernels.bench.stage import Stage, measure_ceilings, stage_clock
    from microturn.kernels.tune.deadline import Deadline
    from microturn.kernels.tune.journal import Journal

    device = torch.device("cpu") if options.dry_run else torch.device("cuda", torch.cuda.current_device())
    stage = Stage(
        device=device,
        clock=stage_clock(device),
        journal=Journal(options.out / f"{options.name}.jsonl"),
        deadline=Deadline(60.0 * options.minutes),
        machine=this_machine(device),
    )
    stage.journal.add("machine", stage.machine.as_row())
    with torch.inference_mode():
        if options.name == "census":
            stage.run([("ceilings", lambda: measure_ceilings(stage))])
            census.census(stage, census.DRY if stage.is_dry else census.FULL)
        elif options.name == "correctness":
            correctness.correctness(stage, correctness.DRY if stage.is_dry else correctness.FULL)
        else:
            final.final(stage, final.DRY if stage.is_dry else final.FULL)
    _finish(options, stage.figures, device)
    return 1 if stage.journal.has_failures else 0


def _finish(options: argparse.Namespace, figures: Sequence[Figure], device: torch.device) -> None:
    machine = this_machine(device)
    if figures:
        _say(report.figure_table(figures) + "\n")
    _say(report.machine_text(machine))
    if options.json:
        report.write_json(options.json, machine, figures)
    if options.csv:
        report.write_csv(options.csv, machine, figures)


def _wanted_environment(options: argparse.Namespace) -> Mapping[str, str]:
    """Settings that libraries read when they are loaded, which has happened by now."""
    # Waiting threads that spin take the cores of those that work: 50 ms for a product of 0.3 ms were seen.
    wanted = {"OMP_WAIT_POLICY": "PASSIVE"}
    if getattr(options, "dry_run", False):
        wanted["TRITON_INTERPRET"] = "1"
    return wanted


def _restart_with(wanted: Mapping[str, str]) -> None:
    """Begin this program anew if the environment lacks a setting; a setting of the user's stays."""
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    if missing:
        os.environ.update(missing)
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _shared() -> argparse.ArgumentParser:
    """Options of the program and of each part, anew for each, since parsers change what they are given."""
    # Suppressed defaults, as a part's parser would else undo what stands before the part's name.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument(
        "--json", type=Path, metavar="FILE", help="write machine and figures as one JSON document"
    )
    shared.add_argument(
        "--csv", type=Path, metavar="FILE", help="write figures as CSV, the machine in every row"
    )
    shared.add_argument("--threads", type=int, help="PyTorch's threads on the CPU (default 1)")
    return shared


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m microturn.kernels.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_shared()],
    )
    parser.set_defaults(json=None, csv=None, threads=1)
    parts = parser.add_subparsers(dest="part", metavar="{cpu,gpu}")
    on_cpu = parts.add_parser("cpu", parents=[_shared()], help="measure on the CPU, about two minutes")
    on_cpu.add_argument(
        "--quick", action="store_true", help="the small model only, and fewer rounds: about 20 s"
    )
    on_gpu = parts.add_parser("gpu", parents=[_shared()], help="measure on a CUDA device")
    on_gpu.add_argument("name", choices=GPU_PARTS, help="which part")
    on_gpu.add_argument(
        "--minutes", type=float, default=6.0, help="steps that start later are skipped (default 6)"
    )
    on_gpu.add_argument(
        "--out", type=Path, default=Path("out"), metavar="FOLDER", help="for NAME.jsonl (default out)"
    )
    on_gpu.add_argument("--dry-run", action="store_true", help="the same steps on the CPU with tiny sizes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
