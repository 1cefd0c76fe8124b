"""Goes through the GPU measurement and the sweep without a GPU, in one process; run by test_bench.py.

    python dry_run_program.py FOLDER

The interpreter must be chosen before Triton is loaded, hence a program of its own. Exits with 1 if any step failed.
"""

import sys
from pathlib import Path

from microturn.kernels.bench.__main__ import main as bench
from microturn.kernels.tune.sweep import main as sweep

folder = sys.argv[1]
codes = [
    bench(["gpu", part, "--dry-run", "--out", folder, "--json", f"{folder}/{part}.json"])
    for part in ("census", "correctness", "final")
]
table, journal = str(Path(folder) / "tables.json"), str(Path(folder) / "sweep.jsonl")
codes.append(sweep(["--dry-run", "--out", table, "--journal", journal]))
sys.exit(max(codes))
