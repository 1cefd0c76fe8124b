"""What the machine code of a kernel says: its instructions, registers and stack, read with the tools Triton ships."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from triton import knobs

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_ATOMIC = re.compile(r"^(?:RED|REDG|REDS|ATOM|ATOMG|ATOMS)\.")
_FLOAT = re.compile(r"\.(?:F16|F16x2|BF16|BF16_V2|F32|F64)\b", re.IGNORECASE)
_WIDE_LOAD = re.compile(r"^(?:LDG|LDGSTS)\..*128|^(?:UTMALDG|UBLKCP)\b")


class UnreadableCodeError(RuntimeError):
    """The tools did not say how many registers a kernel uses."""

    def __init__(self, said: str) -> None:
        super().__init__(
            f"expected cuobjdump to give registers and stack, as 'REG:32 STACK:0', got {said[-500:]!r}"
        )


@dataclass(frozen=True)
class MachineCode:
    """One kernel's machine code."""

    opcodes: Mapping[str, int]
    """How often each instruction stands in it, with its modifiers, as `LDG.E.128`."""
    registers: int
    """Per thread."""
    stack_bytes: int
    """Per thread; registers that did not fit lie there."""

    def count(self, prefix: str) -> int:
        """How many instructions begin with `prefix`."""
        return sum(number for opcode, number in self.opcodes.items() if opcode.startswith(prefix))

    @property
    def spills(self) -> int:
        """Loads and stores of local memory."""
        return self.count("LDL") + self.count("STL")

    @property
    def uses_hgmma(self) -> bool:
        """Whether Hopper's warpgroup multiply occurs."""
        return self.count("HGMMA") > 0

    @property
    def loads_wide(self) -> bool:
        """Whether 16 bytes at a time, or whole tiles, are loaded from global memory."""
        return any(_WIDE_LOAD.match(opcode) for opcode in self.opcodes)

    @property
    def float_atomics(self) -> tuple[str, ...]:
        """Instructions that add to memory in an order that no program fixes.

        Compare-and-swap counts too, as additions of floats that the processor does not know are loops of it.
        """
        return tuple(sorted(opcode for opcode in self.opcodes if _is_float_atomic(opcode)))


def _is_float_atomic(opcode: str) -> bool:
    if opcode.startswith("UTMAREDG"):
        return True
    return bool(_ATOMIC.match(opcode)) and (bool(_FLOAT.search(opcode)) or ".CAS" in opcode)


def machine_code(cubin: bytes) -> MachineCode:
    """Disassemble a kernel's binary; needs no driver.

    Raises:
        UnreadableCodeError: the tools gave no usage of registers.
        subprocess.CalledProcessError: the tools do not know this binary.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        listing = _cuobjdump("-sass", file)
        usage = _cuobjdump("-res-usage", file)
    found = _USAGE.search(usage)
    if found is None:
        raise UnreadableCodeError(usage)
    return MachineCode(Counter(_INSTRUCTION.findall(listing)), int(found[1]), int(found[2]))


def _cuobjdump(option: str, file: Path) -> str:
    command = [knobs.nvidia.cuobjdump.path, option, str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    # The usage of resources is written to one stream or the other, depending on the tool's version.
    return run.stdout + run.stderr
