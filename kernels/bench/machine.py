"""What a figure was measured on: processor or GPU, versions, settings, the numerics' fingerprint."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from microturn.kernels.bench.floors import Ceilings
from microturn.kernels.fingerprint import numerics_fingerprint

_FLAGS = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE")


@dataclass(frozen=True)
class Machine:
    """A description that goes with every table."""

    device: str
    """The GPU's name, or the processor's."""
    units: int
    """Streaming multiprocessors, or logical cores."""
    cache_bytes: int
    """The GPU's second-level cache; 0 on a CPU."""
    memory_bytes: int
    threads: int
    """Of PyTorch on the CPU."""
    system: str
    python: str
    torch: str
    triton: str
    flags: dict[str, str]
    fingerprint: str
    date: str

    def as_row(self) -> dict[str, object]:
        """Fields for JSON."""
        return asdict(self)


def this_machine(device: torch.device) -> Machine:
    """Describe the machine that `device` belongs to."""
    name, units, cache, memory = _cuda(device) if device.type == "cuda" else _processor()
    return Machine(
        device=name,
        units=units,
        cache_bytes=cache,
        memory_bytes=memory,
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        triton=_version("triton"),
        flags={flag: os.environ[flag] for flag in _FLAGS if flag in os.environ},
        fingerprint=numerics_fingerprint(),
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )


def cpu_ceilings(dtype: torch.dtype, *, tries: int = 5) -> Ceilings:
    """Measure this CPU's memory bandwidth and its rate of dense products in `dtype`, the best of a few tries.

    Takes about a tenth of a second. The copied 64 MB exceed the caches of one core.
    """
    source = torch.ones(16 << 20, dtype=torch.float32)
    target = torch.empty_like(source)
    square = torch.randn(768, 768).to(dtype)
    copy_s = min(_seconds(lambda: target.copy_(source)) for _ in range(tries))
    product_s = min(_seconds(lambda: square @ square) for _ in range(tries))
    return Ceilings(2 * source.nbytes / copy_s, 2 * 768**3 / product_s)


def _seconds(call: Callable[[], object]) -> float:
    """Processor time per thread: neighbours on a shared machine lengthen wall time only."""
    start = time.process_time()
    call()
    return (time.process_time() - start) / torch.get_num_threads()


def _cuda(device: torch.device) -> tuple[str, int, int, int]:
    found = torch.cuda.get_device_properties(device)
    return found.name, found.multi_processor_count, int(found.L2_cache_size), found.total_memory


def _processor() -> tuple[str, int, int, int]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return _processor_name(), os.cpu_count() or 1, 0, memory


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
