"""Times every candidate tile on a GPU and writes the table that the kernels read.

    python -m microturn.kernels.tune.sweep --minutes 8 --out tables.json [--journal sweep.jsonl]
        [--mma-class auto|equal|hgmma|hmma] [--only 4096x4096] [--dry-run]

First it finds out which of the processor's multiply instructions give the same bits (`--mma-class` skips that). Then
all candidates are compiled side by side, and timed weight by weight, each within its share of the time. A tile whose bits
differ from the others' is left out and named in the journal. The table is rewritten after each weight, so a sweep that is
cut short leaves a table that is right as far as it goes. Copy it to kernels/tune/tables/sm_90.json.

`--dry-run` walks through all of it on the CPU with tiny sizes; set TRITON_INTERPRET=1 for it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch

from microturn.kernels.gpu.launch import INTERPRET
from microturn.kernels.gpu.tuning import MmaClass, architecture
from microturn.kernels.tune.deadline import Deadline
from microturn.kernels.tune.expert_sweep import expert_jobs, swept_experts
from microturn.kernels.tune.journal import Journal
from microturn.kernels.tune.plan import Plan, dry_plan, gpu_plan
from microturn.kernels.tune.precompile import precompile
from microturn.kernels.tune.table_file import TableFile
from microturn.kernels.tune.weight_sweep import found_class, swept_weight, weight_jobs

PRECOMPILE_S = 150.0
"""Seconds that compiling side by side may take; the rest is compiled when it is first timed."""

EXPERT_SHARE = 0.35
"""Of the time left goes to the experts, which take most of a token's time. Our choice."""


def sweep(plan: Plan, deadline: Deadline, journal: Journal, out: Path, mma: MmaClass | None) -> None:
    """Fill the table `out`; every result goes to the journal too."""
    mma = mma or found_class(plan, journal)
    table = TableFile(out, architecture(plan.device), mma)
    table.write()
    _attempt("precompile", lambda: _precompile(plan, mma, journal, deadline), journal)
    shape = plan.experts
    if shape is not None:
        share = deadline.share(EXPERT_SHARE * deadline.left_s)
        _attempt("experts", lambda: _experts(plan, mma, share, journal, table), journal)
    weights = [*(("lm_head", *head) for head in plan.heads), *(("linear", *shape) for shape in plan.shapes)]
    for place, (operator, n, k) in enumerate(weights):
        if deadline.is_over:
            journal.skipped(f"{operator} {n}x{k}")
            continue
        # Twice an even share, as most weights need less than theirs.
        share = deadline.share(2.0 * deadline.left_s / (len(weights) - place))
        _attempt(
            f"{operator} {n}x{k}",
            partial(_weight, plan, operator, n, k, mma, share, journal, table),
            journal,
        )


def _precompile(plan: Plan, mma: MmaClass, journal: Journal, deadline: Deadline) -> None:
    jobs = weight_jobs(plan, mma)
    if plan.experts is not None:
        jobs = [*expert_jobs(plan, plan.experts, mma), *jobs]
    limit_s = min(0.4 * deadline.left_s, PRECOMPILE_S)
    outcomes = list(
        precompile(jobs, device=plan.device, dtype=plan.dtype, workers=plan.workers, timeout_s=limit_s)
    )
    broken = {str(one.job.tiles): one.error for one in outcomes if one.error}
    journal.add("precompiled", {"jobs": len(jobs), "done": len(outcomes), "broken": broken})


def _weight(
    plan: Plan,
    operator: str,
    n: int,
    k: int,
    mma: MmaClass,
    deadline: Deadline,
    journal: Journal,
    table: TableFile,
) -> None:
    table.add(operator, n, k, list(swept_weight(plan, operator, n, k, mma, deadline, journal)))


def _experts(plan: Plan, mma: MmaClass, deadline: Deadline, journal: Journal, table: TableFile) -> None:
    shape = plan.experts
    assert shape is not None
    gate_up, down = swept_experts(plan, shape, mma, deadline, journal)
    table.add("moe_gate_up", shape.expert_width, shape.width, gate_up)
    table.add("moe_down", shape.width, shape.expert_width, down)


def _attempt(step: str, work: Callable[[], None], journal: Journal) -> None:
    """Do one step; one that fails must not cost the others' tables."""
    try:
        work()
    except Exception as error:  # noqa: BLE001  # the boundary of a step: written down, and the next one runs
        journal.failed(step, error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if nothing failed, 1 if some weight did, 2 without a device."""
    options = _parser().parse_args(arguments)
    if options.dry_run and not INTERPRET:
        sys.stderr.write("a dry run needs Triton's interpreter: set TRITON_INTERPRET=1\n")
        return 2
    if not options.dry_run and not torch.cuda.is_available():
        sys.stderr.write("no CUDA device was found; --dry-run goes through the steps without one\n")
        return 2
    plan = dry_plan() if options.dry_run else gpu_plan(options.only)
    journal = Journal(options.journal)
    mma = None if options.mma_class == "auto" else cast(MmaClass, options.mma_class)
    with torch.inference_mode():
        sweep(plan, Deadline(60.0 * options.minutes), journal, options.out, mma)
    return 1 if journal.has_failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m microturn.kernels.tune.sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="time for all weights together (default 8)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="every timing as a JSON line, as it comes"
    )
    parser.add_argument(
        "--mma-class",
        choices=("auto", "equal", "hgmma", "hmma"),
        default="auto",
        help="which multiply instructions tiles may use; auto compares their bits first",
    )
    parser.add_argument(
        "--only", type=_shape, nargs="+", default=(), metavar="NxK", help="weights, instead of all twelve"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny sizes on the CPU, in Triton's interpreter"
    )
    return parser


def _shape(text: str) -> tuple[int, int]:
    n, _, k = text.partition("x")
    return int(n), int(k)


if __name__ == "__main__":
    sys.exit(main())
