"""How far a test goes: quick where every commit is checked, long where somebody asks for it."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def extent(short: T, long: T) -> T:
    """`long` where the environment has MICROTURN_LONG_TESTS."""
    return long if os.environ.get("MICROTURN_LONG_TESTS") else short
