"""Which faults come when, and what the users do: all of it from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

FaultKind: TypeAlias = Literal["kill worker", "stop worker", "kill runtime", "stop runtime", "kill server"]
KINDS: tuple[FaultKind, ...] = ("kill worker", "stop worker", "kill runtime", "stop runtime", "kill server")
MOST_SERVER_KILLS = 4
"""Its keeper starts it again five times."""
PAUSE_S = (1.0, 2.5)
"""Between one fault and the next."""
STOP_S = (0.4, 3.0)
"""How long a process is stopped: from less than a lease to far more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    pause_s: float
    """After the one before."""
    kind: FaultKind
    which: int
    """Which of the processes, counted round."""
    for_s: float
    """How long a process is stopped."""


def faults(seed: int) -> Iterator[Fault]:
    """Yield faults without end. Each round has every kind once, in another order."""
    rng = random.Random(f"faults {seed}")
    server_kills = 0
    while True:
        for kind in rng.sample(KINDS, len(KINDS)):
            fault = Fault(rng.uniform(*PAUSE_S), kind, rng.randrange(60), rng.uniform(*STOP_S))
            server_kills += kind == "kill server"
            if kind != "kill server" or server_kills <= MOST_SERVER_KILLS:
                yield fault


@dataclass(frozen=True, slots=True)
class UserMove:
    """One thing that a user says: a job to be done, or a word into whatever is being said."""

    pause_s: float
    job: int | None
    length_ms: int


def user_moves(seed: int, session: int, jobs: list[int]) -> Iterator[UserMove]:
    """Yield what the user of one session says."""
    rng = random.Random(f"user {seed} {session}")
    for job in jobs:
        yield UserMove(rng.uniform(0.8, 3.2), job, 400)
        if rng.random() < 0.35:
            yield UserMove(rng.uniform(0.8, 2.0), None, rng.choice((400, 800, 1200)))
