"""One measured number, with the hardware's floor and the goal beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from microturn.kernels.tune.timing import Timing


@dataclass(frozen=True)
class Floor:
    """The time below which no implementation can get on a machine."""

    bytes_us: float
    """Time to move every input and output once, in microseconds."""
    flops_us: float
    """Time of the arithmetic at the peak rate, in microseconds."""

    @property
    def us(self) -> float:
        """The larger of both, in microseconds."""
        return max(self.bytes_us, self.flops_us)

    @property
    def bound(self) -> str:
        """What limits: `bytes` or `flops`."""
        return "bytes" if self.bytes_us >= self.flops_us else "flops"


@dataclass(frozen=True)
class Figure:
    """One variant of one case, measured or not."""

    group: str
    """The operator, as `linear`."""
    case: str
    """Sizes and dtype, as `1024x4096 M=1 bfloat16`."""
    variant: str
    """`ours`, or the alternative's name."""
    timing: Timing | None
    """None where nothing was measured; `note` says why."""
    floor: Floor | None = None
    goal: str = ""
    note: str = ""

    @property
    def of_floor(self) -> float | None:
        """The share of the floor that is reached, 1.0 at best."""
        if self.timing is None or self.floor is None or self.timing.p50_us == 0:
            return None
        return self.floor.us / self.timing.p50_us

    def as_row(self) -> dict[str, object]:
        """Flat fields for JSON and CSV."""
        timing = asdict(self.timing) if self.timing else dict.fromkeys(Timing.__dataclass_fields__)
        floor = {"floor_us": self.floor.us, "bound": self.floor.bound} if self.floor else {}
        return {
            "group": self.group,
            "case": self.case,
            "variant": self.variant,
            **timing,
            "floor_us": None,
            "bound": None,
            **floor,
            "of_floor": self.of_floor,
            "goal": self.goal,
            "note": self.note,
        }
