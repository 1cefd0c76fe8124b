"""Finds, per shape, the cheapest policy whose rows have the same bits in every batch, and remembers it.

A policy computes few batch sizes, so all of them are tried, with every row of every batch compared with the same row
computed by one thread. They are tried with one thread, as many as are set, and as many as there are processors, so
that no number between makes another choice, and a policy's bits are those of one thread. It is evidence from random
numbers, not a proof.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import platformdirs
import torch
from torch import Tensor

from microturn.kernels._errors import NoInvariantPolicyError
from microturn.kernels.cpu.policy import ROW_SIZES, Operand, Policy, policies
from microturn.kernels.cpu.processor import processor
from microturn.kernels.evidence import same_bits

CACHE_VERSION = 3
"""Raised whenever a policy or the probe changes, so that older findings are not used."""

MOST_COLUMNS = 8192
"""A weight with more columns is tried with this many, plus the rest of a division by 64; our choice, to bound the time."""

OFFSETS = (0, 3, 7)
"""Where in the rows of random numbers a batch begins: so a row is seen at several places."""

_POOL = 1 << 20
_lock = RLock()


class LinearShape(NamedTuple):
    """What a policy is chosen by, beside the processor."""

    dtype: torch.dtype
    inner: int
    """K."""
    outer: int
    """N."""
    threads: int
    precision: str
    """PyTorch's setting for products of float32."""


_known: dict[tuple[torch.dtype, int, int, int, str], Policy] = {}


def policy_for(dtype: torch.dtype, inner: int, outer: int) -> Policy:
    """The policy for a weight `(outer, inner)` with the present number of threads, probed if it is not known yet.

    Raises:
        NoInvariantPolicyError: every policy gives other bits in other batches.
    """
    shape = (dtype, inner, outer, torch.get_num_threads(), torch.get_float32_matmul_precision())
    return _known.get(shape) or _decided(LinearShape(*shape))


def forget() -> None:
    """Forget what this process found; the file stays."""
    with _lock:
        _known.clear()


def cache_file() -> Path:
    """Where findings of this processor are kept: in `MICROTURN_CACHE`, or else the user's cache folder."""
    root = os.environ.get("MICROTURN_CACHE") or platformdirs.user_cache_dir("microturn")
    return Path(root) / "kernels" / f"linear-{CACHE_VERSION}-{processor().fingerprint()}.json"


def certified(shape: LinearShape, candidates: Iterable[Policy], counts: Iterable[int]) -> Policy:
    """The first of `candidates` that gives the same bits in every batch, with each of `counts` threads."""
    tried = []
    for policy in candidates:
        if is_invariant(policy, shape, counts):
            return policy
        tried.append(policy.name)
    described = f"{shape.dtype}, K {shape.inner}, N {shape.outer}, {shape.threads} threads"
    raise NoInvariantPolicyError("linear", shape=described, tried=", ".join(tried))


def is_invariant(policy: Policy, shape: LinearShape, counts: Iterable[int]) -> bool:
    """Whether every row of every batch size, with a weight of either form, has the bits that one thread gives it."""
    x, weight = _samples(shape._replace(dtype=torch.float32) if policy.widens else shape)
    try:
        operands = [made for made in (policy.packed_operand(weight), policy.operand(weight)) if made]
        with _threads(1):
            expected = operands[0].times(x)
        return all(_agrees(operand, x, expected, count) for count in counts for operand in operands)
    except RuntimeError:
        return False  # The library has no such operator, or refuses the dtype on this processor.


def _agrees(operand: Operand, x: Tensor, expected: Tensor, count: int) -> bool:
    with _threads(count):
        return all(same_bits(operand.times(x[begin:end]), expected[begin:end]) for begin, end in _batches())


def _batches() -> Iterator[tuple[int, int]]:
    for size in ROW_SIZES:
        for offset in OFFSETS if size <= 16 else OFFSETS[1:2]:
            yield offset, offset + size


def _decided(shape: LinearShape) -> Policy:
    with _lock:
        if shape not in _known:
            _learn(shape, _read())
        if shape not in _known:
            _find(shape)
        return _known[shape]


def _learn(shape: LinearShape, findings: dict[str, str]) -> None:
    name = findings.get(_key(shape))
    for policy in policies(shape.dtype):
        if policy.name == name:
            _known[shape] = policy


def _find(shape: LinearShape) -> None:
    """Probe: the policy of one thread if it also does with these threads, so that the bits stay the same."""
    alone = shape._replace(threads=1)
    _learn(alone, _read())
    usual = _known.get(alone)
    if usual is not None and is_invariant(usual, shape, (shape.threads,)):
        found = {shape: usual}
    else:
        counts = sorted({1, os.cpu_count() or 1, shape.threads})
        policy = certified(shape, policies(shape.dtype), counts)
        found = {shape._replace(threads=count): policy for count in counts}
    _known.update(found.items())
    _write(_read() | {_key(one): policy.name for one, policy in found.items()})


def _key(shape: LinearShape) -> str:
    dtype, inner, outer, threads, precision = shape
    return f"{str(dtype).removeprefix('torch.')} {inner}x{outer} {threads} {precision}"


def _read() -> dict[str, str]:
    """What the file says; nothing if it is missing or damaged."""
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(findings: dict[str, str]) -> None:
    """Replace the file at once. A race loses a finding, which is then probed again; a read-only disk loses all."""
    target = cache_file()
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(findings, file, indent=1, sort_keys=True)
        os.replace(name, target)


def _samples(shape: LinearShape) -> tuple[Tensor, Tensor]:
    """Rows and a weight; among the rows some are zeros and some 10,000 times as large.

    In every second row the second half repeats the first, and in every second column of the weight it is the first
    half's negative. Their sum is what was rounded off on the way, so another order of additions shows in its leading
    digits, where a sum of independent numbers in bfloat16 would hide it. A bias would hide it, too.
    """
    outer = shape.outer
    if outer > MOST_COLUMNS:
        outer = MOST_COLUMNS + outer % 64
    rows, weight = _drawn(ROW_SIZES[-1] + OFFSETS[-1], shape.inner), _drawn(outer, shape.inner)
    half = shape.inner // 2
    rows[::2, half : 2 * half] = rows[::2, :half]
    weight[::2, half : 2 * half] = -weight[::2, :half]
    weight[::2, 2 * half :] = 0
    rows[1::5] = 0
    rows[2::7] *= 1e4
    return rows.to(shape.dtype), weight.to(shape.dtype)


def _drawn(rows: int, columns: int) -> Tensor:
    """Normal numbers `(rows, columns)`, of which a large tensor repeats the same million."""
    wanted = rows * columns
    return _pool().repeat(-(-wanted // _POOL))[:wanted].view(rows, columns)


@lru_cache(maxsize=1)
def _pool() -> Tensor:
    return torch.randn(_POOL, generator=torch.Generator().manual_seed(0))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
