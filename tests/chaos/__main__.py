"""Breaks everything at once, and counts what the users were promised and did not get.

    python -m tests.chaos --delegations 1000 --seed 7

Three workers, two runtimes and one server run as processes; one reply in twenty is lost on the way to the server;
workers and runtimes are killed and stopped, the server is killed, users speak into what is being said. A session whose
runtime is gone is reopened on the other one, with what its client has played. The client's record is the truth of what
was heard. The seed gives the schedule of faults and what the users say.

Prints a table and one line of JSON; what is counted is defined in `verdict.py`. Exit status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import anyio

from tests.chaos.driver import Driver, Outcome


def table(outcome: Outcome) -> str:
    """What happened, in lines for people."""
    rows = [
        ("seconds", f"{outcome.seconds:.0f}"),
        *((kind, str(count)) for kind, count in sorted(outcome.faults.items())),
        ("lost replies", str(outcome.lost_replies)),
        ("sessions reopened", str(outcome.reopened)),
        *((f"pieces {fate}", str(count)) for fate, count in sorted(outcome.fates.items())),
    ]
    return "\n".join(f"{name:<20}{value:>8}" for name, value in rows)


def main() -> int:
    """Run, print, and say whether all promises were kept."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delegations", type=int, default=1000, help="how many jobs are asked for")
    parser.add_argument("--seed", type=int, default=1, help="gives the schedule")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="microturn-chaos-"))
    outcome = anyio.run(Driver(options.delegations, options.seed, folder).run)
    sys.stdout.write(f"{table(outcome)}\n{outcome.verdict.as_json()}\n")
    if not outcome.verdict.is_clean:
        sys.stderr.writelines(f"{breach}\n" for breach in outcome.breaches)
        sys.stderr.write(f"A promise was broken; the logs of the programs are in {folder}.\n")
    return 0 if outcome.verdict.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
