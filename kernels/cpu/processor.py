"""What computes here: the processor, the libraries and the settings that decide the bits of a matrix product."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path

import torch

FLAGS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables by which PyTorch, oneDNN and MKL are told to use other instructions."""

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Processor:
    """All that is known to choose the instructions of a matrix product, but for the number of threads."""

    machine: str
    """The architecture, as `x86_64`."""
    name: str
    """The model's name, as the system tells it; may be empty."""
    features: str
    """The instruction sets that the system reports, sorted; empty where it reports none."""
    capability: str
    """The instruction set that PyTorch's own loops use, as `AVX512`."""
    libraries: str
    """The versions of PyTorch and of what it was built with."""
    flags: tuple[tuple[str, str], ...]
    """Those of `FLAGS` that are set."""

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that differ where any part differs."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def processor() -> Processor:
    """The processor of this process, read once: the libraries read their flags once, too."""
    facts = _cpu_facts()
    return Processor(
        machine=platform.machine(),
        name=facts.get("model name", platform.processor()),
        features=" ".join(sorted(facts.get("flags", facts.get("Features", "")).split())),
        capability=torch.backends.cpu.get_cpu_capability(),
        libraries=f"{torch.__version__}\n{torch.__config__.show()}",
        flags=tuple((flag, os.environ[flag]) for flag in FLAGS if flag in os.environ),
    )


def _cpu_facts() -> dict[str, str]:
    """The first processor's entries in Linux's list; empty on other systems."""
    try:
        first = _CPUINFO.read_text(errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
