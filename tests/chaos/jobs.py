"""What is delegated: numbered jobs whose every word says where it belongs, so that what was heard can be judged."""

from __future__ import annotations

import re
from dataclasses import dataclass

PARTS = 3
"""Pieces of each result; the last one comes with its end."""
WORDS = 10
"""Words of each piece: more than are looked back over when one that was cut off is taken up again."""
AGAIN = 1_000_000
"""Added to a job's number each time that it is asked for anew, since nobody had taken it."""
_WORD = re.compile(r"j(\d+)p(\d+)w(\d+)\.?")
_INTENT = re.compile(r"job (\d+)")


@dataclass(frozen=True, slots=True)
class JobWord:
    """One word of a result."""

    job: int
    part: int
    index: int


def intent_of(job: int) -> str:
    """What the user says to have a job done."""
    return f"job {job}"


def job_of(intent: str) -> int | None:
    """The job that was asked for; None where it was something else."""
    found = _INTENT.fullmatch(intent)
    return int(found[1]) if found else None


def text_of(job: int, part: int) -> str:
    """The words of one piece."""
    return " ".join(f"j{job}p{part}w{index}" for index in range(WORDS)) + "."


def job_word(word: str) -> JobWord | None:
    """Where a word belongs; None where it is of no result."""
    found = _WORD.fullmatch(word)
    return JobWord(*map(int, found.groups())) if found else None
