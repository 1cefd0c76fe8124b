"""Compiles the Triton kernels without a GPU, and checks their machine code.

    python -m microturn.kernels.tune.compile_gate [--arch 80 90 100] [--only NAME] [--short] [--json FILE]

Every module of `microturn.kernels.gpu` may have a function `compile_cases()`. Each case is compiled for each
architecture that it is meant for, and its machine code must not spill registers, must fit the shared memory, must not
add floats atomically (their order would change bits), must use the multiply instructions and the loads that its case
expects, and must stay below its cap of registers. Prints a table, and one line of JSON at the end.

Exit status: 0 if all is well, 1 if a case breaks a rule, 2 if nothing could be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from time import monotonic
from typing import Any

import triton
from triton.backends.compiler import GPUTarget

from microturn.kernels import gpu
from microturn.kernels.gpu.compile_case import ALL_ARCHITECTURES, CompileCase
from microturn.kernels.tune.sass import MachineCode, machine_code

SHARED_MEMORY_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}
"""What one block may use: 163 KiB on an A100, 227 KiB later (CUDA C++ Programming Guide, compute capabilities)."""

_HOPPER = 90
_WARP = 32


@dataclass(frozen=True)
class Verdict:
    """What became of one case on one architecture."""

    name: str
    arch: int
    breaches: tuple[str, ...]
    """Which rules it breaks; empty if none."""
    seconds: float
    """To compile it, or to find it in Triton's cache."""
    registers: int = 0
    shared_bytes: int = 0
    hgmma: int = 0
    hmma: int = 0


def check(case: CompileCase, arch: int) -> Verdict:
    """Compile one case and hold its machine code against its expectations."""
    start = monotonic()
    try:
        compiled = triton.compile(
            case.source(), target=GPUTarget("cuda", arch, _WARP), options=case.options()
        )
    except Exception as error:  # noqa: BLE001  # whatever the compiler raises is its verdict on the case
        message = f"does not compile: {type(error).__name__}: {error}"
        return Verdict(case.name, arch, (message[:300],), monotonic() - start)
    code = machine_code(compiled.asm["cubin"])
    shared = int(compiled.metadata.shared)
    return Verdict(
        case.name,
        arch,
        tuple(breaches(case, arch, code, shared)),
        monotonic() - start,
        registers=code.registers,
        shared_bytes=shared,
        hgmma=code.count("HGMMA"),
        hmma=code.count("HMMA"),
    )


def breaches(case: CompileCase, arch: int, code: MachineCode, shared_bytes: int) -> Iterator[str]:
    """The rules that this machine code breaks."""
    if code.stack_bytes or code.spills:
        yield f"spills: {code.stack_bytes} bytes of stack, {code.spills} local loads and stores"
    if shared_bytes > SHARED_MEMORY_BYTES[arch]:
        yield f"shared memory: {shared_bytes} of {SHARED_MEMORY_BYTES[arch]} bytes"
    if code.float_atomics:
        yield f"adds floats in no fixed order: {', '.join(code.float_atomics)}"
    if arch == _HOPPER and code.uses_hgmma != case.expects_hgmma:
        yield f"warpgroup multiply: expected {case.expects_hgmma}, found {code.uses_hgmma}"
    if case.expects_wide_loads and not code.loads_wide:
        yield "loads less than 16 bytes at a time"
    if code.registers > case.max_registers:
        yield f"registers: {code.registers} of {case.max_registers}"


def all_cases() -> list[CompileCase]:
    """The cases of every module of `microturn.kernels.gpu`, in the order of their names."""
    modules = (import_module(f"{gpu.__name__}.{module.name}") for module in iter_modules(gpu.__path__))
    cases = [case for module in modules for case in getattr(module, "compile_cases", list)()]
    return sorted(cases, key=lambda case: case.name)


def one_per_kernel(cases: Iterable[CompileCase]) -> list[CompileCase]:
    """The first case of each kernel."""
    firsts: dict[Any, CompileCase] = {}
    for case in cases:
        firsts.setdefault(case.kernel, case)
    return list(firsts.values())


def _line(verdict: Verdict) -> str:
    columns = (
        f"{'ok' if not verdict.breaches else 'BREACH':6} sm_{verdict.arch:<4}{verdict.registers:4d} regs"
        f"{verdict.shared_bytes:8d} B {verdict.hgmma:4d} hgmma {verdict.hmma:4d} hmma {verdict.seconds:5.1f} s "
    )
    return columns + " | ".join((verdict.name, *verdict.breaches)) + "\n"


def _summary(verdicts: Sequence[Verdict], seconds: float) -> dict[str, object]:
    broken = [verdict for verdict in verdicts if verdict.breaches]
    return {
        "passed": bool(verdicts) and not broken,
        "checked": len(verdicts),
        "breaches": [f"sm_{v.arch} {v.name}: {'; '.join(v.breaches)}" for v in broken],
        "triton": triton.__version__,
        "seconds": round(seconds, 1),
    }


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compile_gate", description="Check the machine code of the kernels."
    )
    parser.add_argument(
        "--arch", type=int, nargs="+", choices=ALL_ARCHITECTURES, default=list(ALL_ARCHITECTURES)
    )
    parser.add_argument("--only", default="", help="check the cases whose names contain this")
    parser.add_argument("--short", action="store_true", help="check one case of each kernel")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    arguments = _arguments(words)
    if triton.knobs.runtime.interpret:
        sys.stderr.write(
            "compile_gate: kernels are not compiled under TRITON_INTERPRET=1; unset it and try again\n"
        )
        return 2
    start = monotonic()
    cases = [case for case in all_cases() if arguments.only in case.name]
    verdicts = []
    for case in one_per_kernel(cases) if arguments.short else cases:
        for arch in sorted(set(arguments.arch) & set(case.architectures)):
            verdicts.append(check(case, arch))
            sys.stdout.write(_line(verdicts[-1]))
            sys.stdout.flush()
    summary = _summary(verdicts, monotonic() - start)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    sys.stdout.write(json.dumps(summary) + "\n")
    if not verdicts:
        return 2
    return 0 if summary["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
