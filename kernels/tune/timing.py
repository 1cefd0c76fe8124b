"""Timing variants of one operation side by side, on a CPU by clocks and on a GPU by replayed CUDA graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Timing:
    """How long one call took over many rounds: the 20th, 50th and 80th percentile, in microseconds."""

    p20_us: float
    p50_us: float
    p80_us: float
    rounds: int
    cpu_us: float | None = None
    """20th percentile of the processor time of all threads, in microseconds; None on a GPU."""
    how: str = "wall"
    """What was timed: `wall` time, a CUDA graph's `replay`, or `eager` calls between two events."""

    @classmethod
    def of(
        cls, durations_us: Sequence[float], *, cpu_us: Sequence[float] | None = None, how: str = "wall"
    ) -> Timing:
        """Summarise single durations, in microseconds.

        Raises:
            ValueError: if there are none.
        """
        if not durations_us:
            raise ValueError("durations_us is empty: nothing was timed")
        low, middle, high = (quantile(durations_us, share) for share in (0.2, 0.5, 0.8))
        spent = quantile(cpu_us, 0.2) if cpu_us else None
        return cls(low, middle, high, len(durations_us), spent, how)


Call = Callable[[], object]
Variants = Mapping[str, Sequence[Call]]
"""By name, the same operation on one or several sets of buffers."""


class Clock(Protocol):
    """Times variants in turn, so that a disturbance meets all of them."""

    def time(self, variants: Variants) -> dict[str, Timing]:
        """One timing per variant, of a single call."""
        ...


@dataclass(frozen=True)
class CpuClock:
    """Wall and processor time of single calls, the variants taking turns.

    A variant's sets of buffers are taken one after the other.
    """

    rounds: int = 200
    """Most rounds of one comparison."""
    budget_s: float = 1.0
    """Time after which no further round starts."""
    least_rounds: int = 7

    def time(self, variants: Variants) -> dict[str, Timing]:
        """One timing per variant; the first round warms up and is not counted."""
        spans: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for calls in variants.values():
            for call in calls:
                call()
        end = time.monotonic() + self.budget_s
        for turn in range(self.rounds):
            if turn >= self.least_rounds and time.monotonic() > end:
                break
            for name, calls in variants.items():
                spans[name].append(_span_us(calls[turn % len(calls)]))
        return {
            name: Timing.of([wall for wall, _ in found], cpu_us=[cpu for _, cpu in found])
            for name, found in spans.items()
        }


def _span_us(call: Call) -> tuple[float, float]:
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - wall) / 1e3, (time.process_time_ns() - cpu) / 1e3


@dataclass(frozen=True)
class ReplayClock:
    """Time of one call inside a replayed CUDA graph, the variants taking turns.

    A graph holds many calls, so that the cost of its launch spreads thin; its buffers should be larger than the
    second-level cache together, see `rotations`. An operation that cannot be captured is timed eagerly and says so.
    """

    rounds: int = 50
    graph_us: float = 2000.0
    """About how long one graph should run."""
    most_calls: int = 100
    """Most calls in one graph."""

    def time(self, variants: Variants) -> dict[str, Timing]:
        """One timing per variant."""
        loops = {name: self._loop(calls) for name, calls in variants.items()}
        spans: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(self.rounds):
            for name, loop in loops.items():
                spans[name].append(_between_events_us(loop.replay) / loop.calls)
        return {name: Timing.of(spans[name], how=loops[name].how) for name in variants}

    def _loop(self, calls: Sequence[Call]) -> _Loop:
        for call in calls:
            call()
        single_us = _between_events_us(calls[0])
        turns = int(self.graph_us / max(single_us, 1.0) / len(calls))
        turns = max(1, min(turns, self.most_calls // len(calls)))
        many = [call for _ in range(turns) for call in calls]
        try:
            graph = captured(many)
        except RuntimeError:
            torch.cuda.synchronize()
            return _Loop(lambda: _run(many), len(many), "eager")
        return _Loop(graph.replay, len(many), "replay")


@dataclass(frozen=True)
class _Loop:
    replay: Callable[[], None]
    calls: int
    how: str


def captured(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of these calls in order; each has run on a side stream before.

    Raises:
        RuntimeError: if one of them cannot be captured.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        _run(calls[:4])
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _run(calls)
    return graph


def _run(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _between_events_us(call: Call) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e3


def rotations(bytes_per_set: int, *, cache_bytes: int, free_bytes: int) -> int:
    """How many sets of buffers make a cache useless: together more than twice its size.

    Args:
        bytes_per_set: of everything that one call reads.
        cache_bytes: of the last cache before memory.
        free_bytes: memory that may be taken; at least one set is always used.
    """
    wanted = 1 + 2 * cache_bytes // max(bytes_per_set, 1)
    return max(1, min(wanted, 64, free_bytes // max(bytes_per_set, 1)))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, interpolated between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
