"""Marks and what becomes of them: figures with an interval that knows that marks of one scene belong together.

Knows nothing of scenes but that there are several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS = 1000
"""Samples of scenes that an interval is made from; our choice."""
_NORMAL_95 = 1.959964
_PERCENTILES = (2.5, 97.5)
_NONE_SEEN = 3.0
"""Most events, at 95 %, where none was seen: the rule of three (Hanley and Lippman-Hand, 1983)."""


class Mark(NamedTuple):
    """One mark of one figure."""

    value: float
    weight: float = 1.0
    """For rates: the words, or the minutes, that the value is a mean of."""


Marks = Mapping[str, Sequence[Mark]]
"""Marks by figure; a figure without an occasion is absent."""


class Statistic(Enum):
    """What a figure is of its marks."""

    SHARE = auto()
    """The mean of marks that are 0 or 1."""
    RATE = auto()
    """Events by what they are counted over: the weighted mean."""
    MEAN = auto()
    MEDIAN = auto()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of several scenes."""

    value: float
    low: float
    high: float
    """95 % interval over scenes that might have been drawn."""
    marks: int
    scenes: int
    """Those with an occasion."""


def estimate(figure: str, statistic: Statistic, scenes: Sequence[Marks]) -> Estimate | None:
    """Estimate a figure from the marks of scenes; None if none had an occasion.

    The interval is a bootstrap that draws whole scenes (Efron, 1979). Where it has no width because everything or
    nothing was right, it is Wilson's (1927) for as many draws as there are scenes, or by the rule of three for rates.
    """
    given = [list(scene[figure]) for scene in scenes if scene.get(figure)]
    if not given:
        return None
    marks = _Table.of(given)
    value = float(marks.estimates(statistic, np.ones((1, len(given))))[0])
    if statistic is Statistic.SHARE and value in {0.0, 1.0}:
        low, high = wilson(value, len(given))
    elif statistic is Statistic.RATE and value == 0.0:
        low, high = 0.0, _NONE_SEEN / float(marks.weights.sum())
    else:
        low, high = marks.interval(statistic)
    return Estimate(value, low, high, len(marks.values), len(given))


def wilson(share: float, draws: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of independent draws.

    Raises:
        ValueError: there are no draws.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws!r}")
    square = _NORMAL_95**2 / draws
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """M marks of S scenes, by value."""

    values: _Floats
    """(M,)"""
    weights: _Floats
    """(M,)"""
    scenes: npt.NDArray[np.int64]
    """(M,) the scene of each."""
    count: int
    """S"""

    @classmethod
    def of(cls, scenes: Sequence[Sequence[Mark]]) -> _Table:
        rows = sorted(
            (mark.value, mark.weight, place) for place, scene in enumerate(scenes) for mark in scene
        )
        values, weights, places = (np.array(column) for column in zip(*rows, strict=True))
        return cls(values.astype(float), weights.astype(float), places, len(scenes))

    def estimates(self, statistic: Statistic, times: _Floats) -> _Floats:
        """The figure for each of D draws, which take each scene so many times: `(D, S)` to `(D,)`."""
        weights = times[:, self.scenes] * self.weights
        below = weights.cumsum(1)
        if statistic is Statistic.MEDIAN:
            return np.asarray(self.values[(below < below[:, -1:] / 2).sum(1)])
        return np.asarray(weights @ self.values / below[:, -1])

    def interval(self, statistic: Statistic) -> tuple[float, float]:
        chances = np.full(self.count, 1 / self.count)
        times = np.random.default_rng(0).multinomial(self.count, chances, size=DRAWS).astype(float)
        low, high = np.percentile(self.estimates(statistic, times), _PERCENTILES)
        return float(low), float(high)
