"""What every part of the GPU measurement shares: the device, the clock, the journal and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from microturn.kernels.bench.figure import Figure, Floor
from microturn.kernels.bench.floors import H100, Ceilings
from microturn.kernels.bench.machine import Machine
from microturn.kernels.tune.deadline import Deadline
from microturn.kernels.tune.journal import Journal
from microturn.kernels.tune.timing import Call, Clock, CpuClock, ReplayClock, rotations

Step = Callable[[], None]


@dataclass
class Stage:
    """One run of a part of the measurement.

    A dry run has the same steps on the CPU, in float32 and with sizes that mean nothing.
    """

    device: torch.device
    clock: Clock
    journal: Journal
    deadline: Deadline
    machine: Machine
    ceilings: Ceilings = H100
    """Replaced by what `measure_ceilings` finds."""
    figures: list[Figure] = field(default_factory=list)

    @property
    def is_dry(self) -> bool:
        """Whether there is no GPU."""
        return self.device.type != "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and activations: bfloat16 on a GPU."""
        return torch.float32 if self.is_dry else torch.bfloat16

    def run(self, steps: Sequence[tuple[str, Step]]) -> None:
        """Run steps until the time is over. One that breaks is written down, and the next one runs."""
        for name, step in steps:
            if self.deadline.is_over:
                self.journal.skipped(name)
                continue
            try:
                step()
            except Exception as error:  # noqa: BLE001  # the boundary of a step: the rest of a rare GPU's time is worth more
                self.journal.failed(name, error)
            if not self.is_dry:
                torch.cuda.empty_cache()

    def compare(
        self,
        group: str,
        case: str,
        variants: Mapping[str, Sequence[Call]],
        *,
        floor: Floor | None = None,
        goal: str = "",
        note: str = "",
    ) -> None:
        """Time variants side by side and write a figure for each; one that does not run is written as such."""
        runnable = {name: calls for name, calls in variants.items() if self._runs(group, case, name, calls)}
        for name, timing in self.clock.time(runnable).items():
            figure = Figure(group, case, name, timing, floor, note=note)
            self._record(replace(figure, goal=goal) if name.startswith("ours") else figure)

    def normal(self, *sizes: int, seed: int = 0, spread: float = 1.0) -> Tensor:
        """Normal numbers in the stage's dtype."""
        generator = torch.Generator(device=self.device).manual_seed(seed)
        empty = torch.empty(sizes, device=self.device, dtype=self.dtype)
        return empty.normal_(0.0, spread, generator=generator)

    def rotated(self, tensor: Tensor) -> list[Tensor]:
        """The tensor and as many copies as make the cache useless; on a dry run two."""
        if self.is_dry:
            return [tensor, tensor.clone()]
        free, _ = torch.cuda.mem_get_info(self.device)
        count = rotations(tensor.nbytes, cache_bytes=self.machine.cache_bytes, free_bytes=free // 2)
        return [tensor, *(tensor.clone() for _ in range(count - 1))]

    def _runs(self, group: str, case: str, name: str, calls: Sequence[Call]) -> bool:
        try:
            calls[0]()
        except Exception as error:  # noqa: BLE001  # a library that cannot do this case is a result, not an end
            self.journal.failed(f"{group} {case} {name}", error)
            return False
        return True

    def _record(self, figure: Figure) -> None:
        self.figures.append(figure)
        self.journal.add("figure", figure.as_row())


def measure_ceilings(stage: Stage) -> None:
    """Bytes per second of a large copy, and operations per second of a large product; floors use them from here on."""
    elements = 1 << (12 if stage.is_dry else 30)
    side = 64 if stage.is_dry else 8192
    source = stage.normal(elements)
    target = torch.empty_like(source)
    a, b = stage.normal(side, side), stage.normal(side, side, seed=1)
    timings = stage.clock.time({"copy": [lambda: target.copy_(source)], "product": [lambda: a @ b]})
    moved, flops = 2 * source.nbytes, 2 * side**3
    stage.ceilings = Ceilings(
        moved / (timings["copy"].p50_us * 1e-6), flops / (timings["product"].p50_us * 1e-6)
    )
    stage.journal.add(
        "ceilings",
        {"bytes_per_s": stage.ceilings.bytes_per_s, "flops_per_s": stage.ceilings.flops_per_s},
    )


def stage_clock(device: torch.device) -> Clock:
    """Replayed CUDA graphs, median of 50; on the CPU a single round, whose times mean nothing."""
    if device.type == "cuda":
        return ReplayClock()
    return CpuClock(rounds=1, budget_s=0.0, least_rounds=1)
